"""Whether a gain survives draws of the device constants; says nothing about traffic."""

from math import floor

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.prose import Name, Number, Sentence, sentence
from apexbench.reports.wording import EN_DASH, THIN, count, number, times
from apexbench.result import Draws

WINS_NEEDED = 0.9
"""Share of the paired draws in which a policy must win to be called better.

And lose to be called worse: either way the 80 % band then lies on one side of 1.
"""
NOT_ROBUST = "not robust to the profile's uncertainty"
_DIGITS = 9  # of a share times 100: what lies below is the noise of floats


def draws_of(outcome: Outcome, scenario: Scenario, variant: str) -> Draws | None:
    """The draws of a variant against the baseline; None where there are none."""
    runs = outcome.runs(scenario.saturation, variant)
    found = (run.draws for run in runs)
    return next((draws for draws in found if draws is not None and draws.ratios), None)


def is_robust(draws: Draws, ratio: float) -> bool:
    """Whether enough draws agree with the nominal ratio about who wins."""
    wins = draws.wins_fraction or 0.0
    return (wins if ratio > 1 else 1 - wins) >= WINS_NEEDED


def robustness_sentence(variant: str, draws: Draws, ratio: float | None) -> Sentence:
    """ "apex wins in 81 % of 32 draws …"; `ratio` is the nominal one, None where there is none."""
    low, high = draws.ratio_band80 or (0.0, 0.0)
    median, wins = draws.ratio_median or 0.0, draws.wins_fraction or 0.0
    ending = "" if ratio is None or is_robust(draws, ratio) else f": {NOT_ROBUST}"
    return sentence(
        Name(variant), " wins in ", Number("draws_wins_fraction", wins, share(wins)), " of ",
        Number("draws_n", draws.n, count(draws.n)), " draws of the device constants (median ratio ",
        Number("draws_ratio_median", median, times(median)), ", 80 % band ",
        Number("draws_ratio_low", low, number(low)), EN_DASH,
        Number("draws_ratio_high", high, number(high)), ")", ending, ".",
    )  # fmt: skip


def share(fraction: float) -> str:
    """Whole per cent, rounded down: what is short of a threshold must not look as if it met it."""
    return f"{floor(round(100 * fraction, _DIGITS))}{THIN}%"
