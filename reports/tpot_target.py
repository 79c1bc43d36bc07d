"""Whether policies keep the TPOT target where throughput is compared; the only place to say so.

At saturation policies are ranked by throughput alone, which a policy can buy with a pace that no
user would accept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apexbench.reports.evidence import evidence, significance
from apexbench.reports.latency_claim import PRESERVED_UP_TO
from apexbench.reports.outcome import BASELINE, THROUGHPUT, Outcome, Scenario, metric_of
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.wording import seconds, times
from apexbench.result import Comparison, Setting

TPOT_P90 = "tpot_p90_s"  # at p90, because the requests of a slow tier hide behind the median
OVER = "\u2717"  # marks a pace above the target

Status = Literal["kept", "missed", "split", "unknown"]


@dataclass(frozen=True, slots=True)
class Pace:
    """TPOT p90 of one variant against the target of a setting, one value per seed.

    "kept": no seed is above the target. "missed": every seed is. "split": some are. "unknown":
    some seed has too few requests for a p90; `values_s` is then empty.
    """

    variant: str
    target_s: float
    values_s: tuple[float, ...]

    @property
    def mean_s(self) -> float | None:
        """Mean over seeds."""
        return sum(self.values_s) / len(self.values_s) if self.values_s else None

    @property
    def num_over(self) -> int:
        """Seeds above the target."""
        return sum(value > self.target_s for value in self.values_s)

    @property
    def status(self) -> Status:
        """Where the seeds lie."""
        if not self.values_s:
            return "unknown"
        if not self.num_over:
            return "kept"
        return "missed" if self.num_over == len(self.values_s) else "split"

    @property
    def is_over(self) -> bool:
        """Whether any seed is known to be above the target."""
        return self.num_over > 0


def pace(outcome: Outcome, setting: Setting | None, variant: str) -> Pace | None:
    """None where the variant did not run or the setting has no TPOT target."""
    runs = outcome.runs(setting, variant)
    target = setting.slo.tpot_s if setting is not None else None
    if not runs or target is None:
        return None
    values = [metric_of(run, TPOT_P90) for run in runs]
    known = tuple(value for value in values if value is not None)
    return Pace(variant, target, known if len(known) == len(values) else ())


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """The fastest hybrid at saturation against the target, and what there is within it.

    `within` is the hybrid with the highest throughput of those that keep the target, `gain` its
    comparison with gpu-only. `is_complete`: the p90 of every hybrid is known.
    """

    best: Pace
    baseline: Pace | None
    within: Pace | None
    gain: Comparison | None
    is_complete: bool
    keeps_pace: bool  # the interval of its p90 over gpu-only's ends at or below PRESERVED_UP_TO


def target_check(outcome: Outcome, scenario: Scenario, best: str) -> TargetCheck | None:
    """None where there is no TPOT target or `best` did not run at saturation."""
    setting = scenario.saturation
    own = pace(outcome, setting, best)
    if own is None:
        return None
    hybrids = [pace(outcome, setting, v.id) for v in outcome.hybrids_at(setting)]
    known = [found for found in hybrids if found is not None]
    kept = [found for found in known if found.status == "kept"]
    within = max(
        kept,
        key=lambda found: outcome.mean(setting, found.variant, THROUGHPUT) or 0.0,
        default=None,
    )
    ratio = outcome.comparison(setting, best, TPOT_P90)
    high = ratio.ci_high if ratio is not None else None
    return TargetCheck(
        best=own,
        baseline=pace(outcome, setting, BASELINE),
        within=own if own.status == "kept" else within,
        gain=outcome.comparison(setting, within.variant, THROUGHPUT) if within else None,
        is_complete=all(found.status != "unknown" for found in known),
        keeps_pace=high is not None and high <= PRESERVED_UP_TO,
    )


def reservation(check: TargetCheck) -> str | None:
    """Why more throughput is no plain win; None where the target is kept.

    And where gpu-only breaks it as well without being faster per token: terms are equal then.
    """
    if not check.best.is_over:
        return None
    if check.baseline is not None and check.baseline.status == "missed" and check.keeps_pace:
        return None
    if gains_within(check):
        return "smaller gain within the TPOT target"
    return "more throughput, TPOT target not kept"


def gains_within(check: TargetCheck) -> bool:
    """Whether another hybrid keeps the target and is significantly faster than gpu-only."""
    gain = check.gain
    if not check.best.is_over or gain is None:
        return False
    return gain.verdict == "better" and gain.ci_low is not None


def target_sentence(check: TargetCheck) -> Sentence:
    """Whether the fastest hybrid keeps the target; if not, the fastest that does."""
    if check.best.status == "unknown":
        return sentence(_unknown(check), _within(check))
    if len(check.best.values_s) == 1:
        return sentence(_values(check))
    if check.best.status == "kept":
        return sentence(_kept(check))
    return sentence(_missed(check), _within(check) if check.within else _none_within(check))


def _target(found: Pace) -> Iterator[Part]:
    yield "the TPOT target of "
    yield Number("tpot_target_s", found.target_s, seconds(found.target_s))


def _p90(key: str, found: Pace) -> Iterator[Part]:
    mean = found.mean_s
    if mean is None:
        yield "p90 unknown"
        return
    yield "p90 "
    yield Number(f"{key}_tpot_p90_s", mean, seconds(mean))


def _unknown(check: TargetCheck) -> Iterator[Part]:
    yield "Whether "
    yield Name(check.best.variant)
    yield " keeps "
    yield from _target(check.best)
    yield " at saturation is not known: too few requests for a p90."


def _values(check: TargetCheck) -> Iterator[Part]:
    """One seed: what was seen, and nothing concluded from it."""
    yield "TPOT at saturation: "
    yield Name(check.best.variant)
    yield " "
    yield from _p90("saturation", check.best)
    if check.within is not None and check.within != check.best:
        yield ", "
        yield Name(check.within.variant)
        yield " "
        yield from _p90("within", check.within)
    if check.baseline is not None:
        yield ", "
        yield Name(BASELINE)
        yield " "
        yield from _p90("baseline_saturation", check.baseline)
    yield "; "
    yield from _target(check.best)
    yield " is neither kept nor missed by one seed."


def _kept(check: TargetCheck) -> Iterator[Part]:
    yield Name(check.best.variant)
    yield " keeps "
    yield from _target(check.best)
    yield " at saturation ("
    yield from _p90("saturation", check.best)
    yield ")."


def _missed(check: TargetCheck) -> Iterator[Part]:
    found = check.best
    yield Name(found.variant)
    yield " does not keep "
    yield from _target(found)
    yield " at saturation: "
    yield from _p90("saturation", found)
    if found.status == "split":
        yield " on average, above it in "
        yield Number("seeds_over_target", found.num_over, str(found.num_over))
        yield f" of {len(found.values_s)} seeds"
    yield "."


def _within(check: TargetCheck) -> Iterator[Part]:
    if check.within is None:
        return
    yield " Within the target (p90, at saturation) the best hybrid is "
    yield Name(check.within.variant)
    if check.gain is None:
        yield ", which is not compared with "
        yield Name(BASELINE)
        yield " there, "
    else:
        yield " with "
        yield Number("within_ratio", check.gain.ratio, times(check.gain.ratio))
        yield " the output throughput of "
        yield Name(BASELINE)
        yield " ("
        yield from evidence("within", check.gain)
        yield "), TPOT "
    yield from _p90("within", check.within)
    yield "" if check.gain is None else significance(check.gain)
    yield "."


def _none_within(check: TargetCheck) -> Iterator[Part]:
    yield " No hybrid keeps it; " if check.is_complete else " No hybrid is known to keep it; "
    yield Name(BASELINE)
    found = check.baseline
    if found is None:
        yield " did not run there."
        return
    yield {
        "kept": " does (",
        "missed": " does not either (",
        "split": " does not in every seed (",
        "unknown": " is not known to (",
    }[found.status]
    yield from _p90("baseline_saturation", found)
    yield ")."
