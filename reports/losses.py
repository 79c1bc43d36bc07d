"""Where a hybrid is worse than staying on the GPU, worst cell first; finds, does not excuse."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log

from apexbench.reports.outcome import (
    BASELINE,
    GOODPUT,
    MORE_IS_BETTER,
    THROUGHPUT,
    Outcome,
    Scenario,
    index,
)
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.trust import distrusted
from apexbench.reports.wording import describe, interval, rate, times
from apexbench.result import Comparison, Result, Setting, Variant

# Every latency at its median, and at p90 the two whose tail the requests on the CPU make. p90 of
# the others would repeat them: TTFT ends before decoding, latency per token is E2E divided.
ONLINE_METRICS = (
    GOODPUT,
    "ttft_p50_s",
    "tpot_p50_s",
    "tpot_p90_s",
    "e2e_p50_s",
    "e2e_p90_s",
    "latency_per_token_p50_s",
)
# Told apart from the others, because a deferred request takes layers + 1 steps per token: counted
# together, this known price of the mechanism would always be the worst cell and hide all others.
CPU_TIER_METRICS = ("cpu_tier_tpot_p50_s", "cpu_tier_e2e_p50_s")


@dataclass(frozen=True, slots=True)
class Cell:
    """A hybrid against a GPU-only variant on one metric at one rate of a scenario.

    `ratio` is hybrid / `against`. The interval is None where the document has none for this pair:
    with one seed, and against a GPU-only variant that is not the baseline. There `is_loss` asks
    that the two intervals against the baseline do not overlap, which is the stricter test.
    """

    scenario: str
    setting: str
    rate: str
    variant: str
    against: str
    metric: str
    ratio: float
    ci_low: float | None
    ci_high: float | None
    n: int
    is_loss: bool

    @property
    def badness(self) -> float:
        """Log of the factor by which the hybrid is worse; negative where it is better."""
        distance = log(self.ratio) if self.ratio > 0 else float("-inf")
        return -distance if self.metric in MORE_IS_BETTER else distance


@dataclass(frozen=True, slots=True)
class LossReport:
    """The significant losses, worst first, and a sentence that is never empty.

    `tier_losses` are those of the requests that the CPU served alone, against all of gpu-only's;
    they are neither in `losses` nor in `compared`.
    """

    losses: tuple[Cell, ...]
    tier_losses: tuple[Cell, ...]
    compared: int
    sentence: Sentence


def where_hybrid_loses(result: Result) -> LossReport:
    """Cells (scenario, policy, metric) where a hybrid is significantly worse, worst first.

    Throughput is compared at saturation, `ONLINE_METRICS` and `CPU_TIER_METRICS` at finite rates.
    """
    outcome = index(result)
    cells = _worst_first(_cells(outcome, (THROUGHPUT,), ONLINE_METRICS))
    tier_cells = _worst_first(_cells(outcome, (), CPU_TIER_METRICS))
    losses = tuple(cell for cell in cells if cell.is_loss)
    tier_losses = tuple(cell for cell in tier_cells if cell.is_loss)
    if losses:
        text = _loss_sentence(losses, len(cells))
    elif cells:
        text = _no_loss_sentence(cells[0], len(cells))
    else:
        text = sentence(f"Where hybrid loses cannot be told: {_why_nothing(result)}.")
    whole = sentence(text.parts, _tier_sentence(tier_losses, len(tier_cells)))
    return LossReport(losses, tier_losses, len(cells), whole)


def _why_nothing(result: Result) -> str:
    if distrusted(result):
        return "the machine was too busy for runs to be compared"
    return "no hybrid was compared with a GPU-only run"


def _worst_first(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    return tuple(sorted(cells, key=lambda cell: -cell.badness))


def _cells(
    outcome: Outcome, at_saturation: tuple[str, ...], online: tuple[str, ...]
) -> Iterator[Cell]:
    """Each metric where it is meaningful: a full queue says nothing about latency."""
    for scenario in outcome.scenarios:
        for setting in scenario.settings:
            metrics = at_saturation if setting.rate_rps is None else online
            for variant in outcome.hybrids_at(setting):
                for metric in metrics:
                    yield from _cells_of(outcome, scenario, setting, variant, metric)


def _cells_of(
    outcome: Outcome, scenario: Scenario, setting: Setting, variant: Variant, metric: str
) -> Iterator[Cell]:
    own = outcome.comparison(setting, variant.id, metric)
    if own is None:
        return
    yield _cell(scenario, setting, own)
    for rival in outcome.rivals_at(setting):
        theirs = outcome.comparison(setting, rival.id, metric)
        if theirs is not None and theirs.ratio > 0:
            yield _cell_against(scenario, setting, own, theirs)


def _cell(scenario: Scenario, setting: Setting, own: Comparison) -> Cell:
    return Cell(
        scenario=scenario.name,
        setting=setting.id,
        rate=rate(setting.rate_label, setting.rate_rps),
        variant=own.candidate,
        against=BASELINE,
        metric=own.metric,
        ratio=own.ratio,
        ci_low=own.ci_low,
        ci_high=own.ci_high,
        n=own.n,
        is_loss=own.verdict == "worse" and own.ci_low is not None,
    )


def _cell_against(
    scenario: Scenario, setting: Setting, own: Comparison, theirs: Comparison
) -> Cell:
    return Cell(
        scenario=scenario.name,
        setting=setting.id,
        rate=rate(setting.rate_label, setting.rate_rps),
        variant=own.candidate,
        against=theirs.candidate,
        metric=own.metric,
        ratio=own.ratio / theirs.ratio,
        ci_low=None,
        ci_high=None,
        n=min(own.n, theirs.n),
        is_loss=is_clearly_worse(own, theirs),
    )


def is_clearly_worse(own: Comparison, theirs: Comparison) -> bool:
    """Whether the intervals of two candidates against one baseline lie apart, `own` worse."""
    if own.metric in MORE_IS_BETTER:
        own, theirs = theirs, own
    if own.ci_low is None or theirs.ci_high is None:
        return False
    return own.ci_low > theirs.ci_high


def _cell_parts(cell: Cell) -> Sentence:
    """The cell in words, without a full stop."""
    return sentence(
        Name(cell.variant), " on ", Name(cell.scenario), f" at {cell.rate}: ",
        Number("loss_ratio", cell.ratio, times(cell.ratio)),
        f" the {_name(cell.metric)} of ", Name(cell.against), f" ({_certainty(cell)})",
    )  # fmt: skip


def _name(metric: str) -> str:
    """Without the tier: the sentence says whose requests these are, gpu-only has no such tier."""
    return describe(metric.removeprefix("cpu_tier_")).name


def _certainty(cell: Cell) -> str:
    seeds = f"n = {cell.n}"
    if cell.ci_low is not None:
        return f"95 % interval {interval(cell.ci_low, cell.ci_high)}, {seeds}"
    if cell.is_loss:
        return f"intervals against {BASELINE} lie apart, {seeds}"
    return f"no interval, {seeds}"


def _loss_sentence(losses: tuple[Cell, ...], compared: int) -> Sentence:
    return sentence(
        "Hybrid is significantly worse in ",
        Number("loss_cells", len(losses), str(len(losses))),
        f" of {compared} comparisons with GPU-only variants; the worst is ",
        _cell_parts(losses[0]).parts,
        ".",
    )


def _no_loss_sentence(nearest: Cell, compared: int) -> Sentence:
    lead = "No hybrid is significantly worse in any of "
    if nearest.n == 1:
        lead = "One seed supports no claim about where hybrid loses; of "
    return sentence(
        lead,
        Number("loss_compared", compared, str(compared)),
        " comparisons with GPU-only variants the least favourable is ",
        _cell_parts(nearest).parts,
        ".",
    )


def _tier_sentence(losses: tuple[Cell, ...], compared: int) -> Iterator[Part]:
    """What the requests on the CPU pay; empty where they lose nothing significant."""
    if losses:
        yield " Requests served mostly by the CPU, taken alone, are significantly slower in "
        yield Number("tier_loss_cells", len(losses), str(len(losses)))
        yield f" of {compared} comparisons with all of {BASELINE}'s; the worst is "
        yield from _cell_parts(losses[0]).parts
        yield "."
