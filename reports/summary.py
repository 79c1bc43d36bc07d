"""The short tables of one scenario, for terminal and Markdown; text, no layout."""

from collections.abc import Iterator, Sequence

from apexbench.reports.evidence import ratio_cell
from apexbench.reports.latency_claim import JUDGED
from apexbench.reports.outcome import (
    BASELINE,
    CPU_TIER_TPOT,
    GOODPUT,
    GPU_TIER_TPOT,
    THROUGHPUT,
    Outcome,
    Scenario,
)
from apexbench.reports.panels import Table
from apexbench.reports.tpot_target import OVER, TPOT_P90, Pace, pace
from apexbench.reports.wording import (
    MISSING,
    THIN,
    count,
    describe,
    interval,
    number,
    rate,
    seconds,
)
from apexbench.result import Comparison, Variant

UNSTEADY_MARK = "\u2020"  # a dagger
_LATENCY_METRICS = (
    "ttft_p50_s",
    *JUDGED,
    "latency_per_token_p50_s",
    *(f"cpu_tier_{metric}" for metric in ("tpot_p50_s", "tpot_p90_s", "e2e_p50_s")),
)


def saturation_note(outcome: Outcome, scenario: Scenario) -> str:
    """Under which load the columns of `saturation_table` hold, and what its marks mean."""
    sentences = [_places(scenario)]
    names = [variant.id for variant in _shown(outcome, scenario)]
    paces = [found for name in names if (found := pace(outcome, scenario.saturation, name))]
    if paces:
        sentences.append(_marks(paces))
    if not all(_is_steady(outcome, scenario, name) for name in names):
        sentences.append(f"{UNSTEADY_MARK}: some window is too short to be steady.")
    return " ".join(sentences)


def _places(scenario: Scenario) -> str:
    online = scenario.online
    if online is None:
        return "tok/s and TPOT p90 at saturation."
    where = rate(online.rate_label, online.rate_rps)
    return f"tok/s and TPOT p90 at saturation; median TPOT by tier and goodput at {where}."


def _marks(paces: Sequence[Pace]) -> str:
    target = seconds(paces[0].target_s)
    if any(found.is_over for found in paces):
        return f"{OVER}: above the TPOT target of {target} in some seed."
    return f"None is above the TPOT target of {target}."


def saturation_table(outcome: Outcome, scenario: Scenario) -> Table:
    """Throughput and TPOT p90 at saturation; TPOT by tier and goodput where latency is judged.

    A pace above the target and a policy whose windows are not all steady are marked.
    """
    columns = ("policy", "tok/s", "ratio", f"95{THIN}%", "TPOT p90", "TPOT gpu", "TPOT cpu",
               "good/s", "GPU KV")  # fmt: skip
    rows = tuple(tuple(_row(outcome, scenario, v)) for v in _shown(outcome, scenario))
    return Table(columns, rows, frozenset(range(1, len(columns))))


def _shown(outcome: Outcome, scenario: Scenario) -> tuple[Variant, ...]:
    return outcome.variants_at(scenario.saturation) or outcome.variants_at(scenario.online)


def latency_note(candidate: str) -> str:
    """What the cells of `latency_table` are."""
    return f"Latency of {candidate} as a ratio to all requests of {BASELINE} (95{THIN}% interval)."


def latency_table(outcome: Outcome, scenario: Scenario, candidate: str) -> Table:
    """One row per finite rate at which a candidate is compared with gpu-only."""
    names = (describe(metric).name for metric in _LATENCY_METRICS)
    columns = ("rate", *(name.replace("end-to-end latency", "E2E") for name in names))
    rows = []
    for setting in scenario.finite:
        found = [outcome.comparison(setting, candidate, metric) for metric in _LATENCY_METRICS]
        if any(found):
            where = rate(setting.rate_label, setting.rate_rps)
            rows.append((where, *map(ratio_cell, found)))
    return Table(columns, tuple(rows), frozenset(range(1, len(columns))))


def _row(outcome: Outcome, scenario: Scenario, variant: Variant) -> Iterator[str]:
    saturation, online = scenario.saturation, scenario.online
    run = outcome.first_run(saturation, variant.id) or outcome.first_run(online, variant.id)
    mark = "" if _is_steady(outcome, scenario, variant.id) else UNSTEADY_MARK
    yield variant.id
    yield f"{number(outcome.mean(saturation, variant.id, THROUGHPUT))}{mark}"
    yield from _ratio(outcome.comparison(saturation, variant.id, THROUGHPUT))
    yield _tpot_p90(outcome, scenario, variant.id)
    yield seconds(outcome.mean(online, variant.id, GPU_TIER_TPOT))
    yield seconds(outcome.mean(online, variant.id, CPU_TIER_TPOT))
    yield number(outcome.mean(online, variant.id, GOODPUT))
    yield count(run.gpu_kv_tokens) if run else MISSING


def _ratio(found: Comparison | None) -> tuple[str, str]:
    """The heading says that it is a ratio; a sign in every row would not fit 80 columns."""
    if found is None:
        return MISSING, MISSING
    if found.ci_low is None:
        return number(found.ratio), f"n = {found.n}"
    return number(found.ratio), interval(found.ci_low, found.ci_high)


def _tpot_p90(outcome: Outcome, scenario: Scenario, name: str) -> str:
    found = pace(outcome, scenario.saturation, name)
    if found is None:
        return seconds(outcome.mean(scenario.saturation, name, TPOT_P90))
    return f"{seconds(found.mean_s)}{THIN}{OVER}" if found.is_over else seconds(found.mean_s)


def _is_steady(outcome: Outcome, scenario: Scenario, name: str) -> bool:
    return all(run.window.is_steady for s in scenario.judged for run in outcome.runs(s, name))
