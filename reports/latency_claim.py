"""Whether a hybrid keeps gpu-only's latency at the rates run; the only place that may say so."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apexbench.reports.evidence import evidence
from apexbench.reports.outcome import BASELINE, Outcome, Scenario
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.wording import describe, number, rate, rates, times
from apexbench.result import Comparison, Setting

PRESERVED_UP_TO = 1.05  # the ratio that the upper end of every interval must not exceed

# End-to-end latency holds TTFT and, divided by the same output lengths, latency per token; TPOT is
# the pace once tokens flow. Each is judged at its median, which most requests see, and at p90,
# where the requests of a slow tier are.
JUDGED = ("tpot_p50_s", "tpot_p90_s", "e2e_p50_s", "e2e_p90_s")
JUDGED_IN_WORDS = "TPOT and E2E, p50 and p90"

Status = Literal["preserved", "lost", "open"]


@dataclass(frozen=True, slots=True)
class LatencyClaim:
    """What the comparisons of `JUDGED` at all finite rates of a scenario support.

    "preserved": none is missing and every interval ends at or below PRESERVED_UP_TO. "lost": some
    are significantly worse and reach above it. "open": neither. `worst` has the highest ratio, of
    the significantly worse ones where latency is lost.
    """

    status: Status
    settings: tuple[Setting, ...]
    worst: Comparison
    compared: int
    worse: int
    missing: int


def latency_claim(outcome: Outcome, scenario: Scenario, candidate: str) -> LatencyClaim | None:
    """None where the candidate is compared with gpu-only at no finite rate."""
    found = tuple(
        comparison
        for setting in scenario.finite
        for metric in JUDGED
        if (comparison := outcome.comparison(setting, candidate, metric)) is not None
    )
    if not found:
        return None
    lost = tuple(c for c in found if c.verdict == "worse" and not _is_within(c))
    missing = len(JUDGED) * len(scenario.finite) - len(found)
    is_preserved = not missing and all(_is_within(c) for c in found)
    return LatencyClaim(
        status="lost" if lost else "preserved" if is_preserved else "open",
        settings=scenario.finite,
        worst=max(lost or found, key=lambda comparison: comparison.ratio),
        compared=len(found),
        worse=len(lost),
        missing=missing,
    )


def claim_sentence(outcome: Outcome, claim: LatencyClaim) -> Sentence:
    """The claim with the ratio it rests on, and the worst that the CPU tier's own requests see."""
    parts = {"preserved": _preserved, "lost": _lost, "open": _open}[claim.status](claim)
    return sentence(parts, _cpu_tier(outcome, claim), ".")


def _is_within(comparison: Comparison) -> bool:
    return comparison.ci_high is not None and comparison.ci_high <= PRESERVED_UP_TO


def _preserved(claim: LatencyClaim) -> Iterator[Part]:
    yield f"Over all requests latency is preserved at {_where(claim)}: the intervals of "
    yield f"{JUDGED_IN_WORDS}, end at or below {number(PRESERVED_UP_TO)} times "
    yield Name(BASELINE)
    yield from _highest(claim)


def _lost(claim: LatencyClaim) -> Iterator[Part]:
    yield f"Latency is lost: {_place(claim, claim.worst)} is "
    yield Number("latency_ratio", claim.worst.ratio, times(claim.worst.ratio))
    yield " that of "
    yield Name(BASELINE)
    yield " ("
    yield from evidence("latency", claim.worst)
    yield "); significantly worse in "
    yield Number("latency_losses", claim.worse, str(claim.worse))
    yield f" of {claim.compared} comparisons ({JUDGED_IN_WORDS}, at {_where(claim)})"


def _open(claim: LatencyClaim) -> Iterator[Part]:
    yield f"That latency stays within {number(PRESERVED_UP_TO)} times "
    yield Name(BASELINE)
    yield f" ({JUDGED_IN_WORDS}, at {_where(claim)}) is not established"
    if claim.missing:
        yield ": "
        yield Number("latency_missing", claim.missing, str(claim.missing))
        yield f" of {claim.missing + claim.compared} comparisons could not be made"
    yield from _highest(claim)


def _highest(claim: LatencyClaim) -> Iterator[Part]:
    yield "; the highest ratio is "
    yield Number("latency_ratio", claim.worst.ratio, times(claim.worst.ratio))
    yield f", {_place(claim, claim.worst)} ("
    yield from evidence("latency", claim.worst)
    yield ")"


def _cpu_tier(outcome: Outcome, claim: LatencyClaim) -> Iterator[Part]:
    """An overall percentile hides a tier that serves few requests."""
    candidate = claim.worst.candidate
    found = [
        tier
        for setting in claim.settings
        for metric in JUDGED
        if (tier := outcome.comparison(setting, candidate, f"cpu_tier_{metric}")) is not None
    ]
    if found:
        worst = max(found, key=lambda comparison: comparison.ratio)
        is_exception = claim.status == "preserved" and not all(map(_is_within, found))
        yield "; not so for" if is_exception else "; for"
        yield " requests served mostly by the CPU: at worst "
        yield Number("cpu_tier_ratio", worst.ratio, times(worst.ratio))
        yield f", {_place(claim, worst)} ("
        yield from evidence("cpu_tier", worst)
        yield ")"
    elif _uses_cpu_tier(outcome, claim):
        yield "; the CPU served too few requests to compare them alone"


def _uses_cpu_tier(outcome: Outcome, claim: LatencyClaim) -> bool:
    return any(
        run.latency_by_tier.get("cpu")
        for setting in claim.settings
        for run in outcome.runs(setting, claim.worst.candidate)
    )


def _place(claim: LatencyClaim, comparison: Comparison) -> str:
    """ "TPOT p90 at 1.2x load"; which tier, the sentence around it says."""
    setting = next(s for s in claim.settings if s.id == comparison.setting)
    words = describe(comparison.metric.removeprefix("cpu_tier_"))
    return f"{words.name} at {rate(setting.rate_label, setting.rate_rps)}"


def _where(claim: LatencyClaim) -> str:
    return rates((setting.rate_label, setting.rate_rps) for setting in claim.settings)
