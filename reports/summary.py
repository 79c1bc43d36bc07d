"""The short tables of one scenario, for terminal and Markdown; text, no layout."""

from collections.abc import Iterator

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
from apexbench.reports.wording import (
    MISSING,
    THIN,
    count,
    describe,
    interval,
    number,
    rate,
    seconds,
    times,
)
from apexbench.result import Comparison, Variant

_LATENCY_METRICS = (
    "ttft_p50_s",
    *JUDGED,
    "latency_per_token_p50_s",
    *(f"cpu_tier_{metric}" for metric in ("tpot_p50_s", "tpot_p90_s", "e2e_p50_s")),
)


def saturation_note(scenario: Scenario) -> str:
    """Under which load the columns of `saturation_table` hold."""
    online = scenario.online
    if online is None:
        return "tok/s at saturation."
    where = rate(online.rate_label, online.rate_rps)
    return f"tok/s at saturation; median TPOT by tier and goodput at {where}."


def saturation_table(outcome: Outcome, scenario: Scenario) -> Table:
    """Throughput at saturation; TPOT by tier and goodput at the rate where latency is judged."""
    shown = outcome.variants_at(scenario.saturation) or outcome.variants_at(scenario.online)
    columns = (
        "policy", "tok/s", "ratio", f"95{THIN}%", "TPOT gpu", "TPOT cpu", "good/s", "GPU KV",
        "steady",
    )  # fmt: skip
    rows = tuple(tuple(_row(outcome, scenario, variant)) for variant in shown)
    return Table(columns, rows, frozenset(range(1, 8)))


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
    yield variant.id
    yield number(outcome.mean(saturation, variant.id, THROUGHPUT))
    yield from _ratio(outcome.comparison(saturation, variant.id, THROUGHPUT))
    yield seconds(outcome.mean(online, variant.id, GPU_TIER_TPOT))
    yield seconds(outcome.mean(online, variant.id, CPU_TIER_TPOT))
    yield number(outcome.mean(online, variant.id, GOODPUT))
    yield count(run.gpu_kv_tokens) if run else MISSING
    yield _steady(outcome, scenario, variant)


def _ratio(found: Comparison | None) -> tuple[str, str]:
    if found is None:
        return MISSING, MISSING
    if found.ci_low is None:
        return times(found.ratio), f"n = {found.n}"
    return times(found.ratio), interval(found.ci_low, found.ci_high)


def _steady(outcome: Outcome, scenario: Scenario, variant: Variant) -> str:
    places = (scenario.saturation, scenario.online)
    runs = [run for setting in places for run in outcome.runs(setting, variant.id)]
    return "yes" if all(run.window.is_steady for run in runs) else "no"
