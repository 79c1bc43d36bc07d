"""Every latency of every policy at every finite rate, by tier, against gpu-only; tables only."""

from collections.abc import Iterator
from itertools import product

from apexbench.reports.evidence import ratio_cell
from apexbench.reports.outcome import Outcome, Scenario, metric_of
from apexbench.reports.panels import Panel, Table, View, nothing
from apexbench.reports.wording import MISSING, count, rate, seconds
from apexbench.result import Run, Setting, Variant

_TIERS = {"": "", "gpu_tier_": ", GPU tier", "cpu_tier_": ", CPU tier"}
_LATENCIES = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "e2e": "E2E",
    "latency_per_token": "latency per token",
}
_PERCENTILES = ("p50", "p90")
_COLUMNS = tuple(product(_LATENCIES, _PERCENTILES))


def build(outcome: Outcome) -> Iterator[Panel]:
    """One table per scenario and finite rate, open where latency is judged and folded elsewhere."""
    for position, scenario in enumerate(outcome.scenarios):
        panels = list(_panels(outcome, position, scenario))
        yield from panels or [
            nothing("latency-table", position, scenario.name, "no finite rate was run.")
        ]


def _panels(outcome: Outcome, position: int, scenario: Scenario) -> Iterator[Panel]:
    for number, setting in enumerate(scenario.finite):
        if any(run.metrics.completed for run in _runs(outcome, setting)):
            yield Panel(
                f"latency-table-{position}-{number}",
                f"Latency at {rate(setting.rate_label, setting.rate_rps)}",
                "",
                _table(outcome, setting),
                position,
                is_wide=True,
                is_folded=setting != scenario.online,
            )


def _runs(outcome: Outcome, setting: Setting) -> Iterator[Run]:
    for variant in outcome.variants_at(setting):
        yield from outcome.runs(setting, variant.id)


def _table(outcome: Outcome, setting: Setting) -> Table:
    heads = (f"{_LATENCIES[latency]} {percentile}" for latency, percentile in _COLUMNS)
    columns = ("policy", "requests, all seeds", *heads)
    rows = tuple(
        row for variant in outcome.variants_at(setting) for row in _rows(outcome, setting, variant)
    )
    return Table(columns, rows, frozenset(range(1, len(columns))))


def _rows(outcome: Outcome, setting: Setting, variant: Variant) -> Iterator[tuple[str, ...]]:
    """All requests, then each tier that served some; the GPU tier alone would repeat them."""
    runs = outcome.runs(setting, variant.id)
    has_tiers = any(run.latency_by_tier.get("cpu") for run in runs)
    for prefix, tier in _TIERS.items():
        requests = _requests(runs, prefix)
        if not prefix or (has_tiers and requests):
            metrics = (f"{prefix}{latency}_{percentile}_s" for latency, percentile in _COLUMNS)
            cells = (_cell(outcome, setting, variant, metric) for metric in metrics)
            yield f"{variant.id}{tier}", count(requests), *cells


def _requests(runs: tuple[Run, ...], prefix: str) -> int:
    if not prefix:
        return sum(run.metrics.e2e_s.n for run in runs)
    tiers = (run.latency_by_tier.get("cpu" if prefix == "cpu_tier_" else "gpu") for run in runs)
    return sum(tier.requests for tier in tiers if tier is not None)


def _cell(outcome: Outcome, setting: Setting, variant: Variant, metric: str) -> str:
    """The mean where every seed has the value: the others would be a selection of seeds."""
    values = [metric_of(run, metric) for run in outcome.runs(setting, variant.id)]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return MISSING
    found = outcome.comparison(setting, variant.id, metric)
    ratio = "" if found is None else f"\n{ratio_cell(found)}"
    return f"{seconds(sum(known) / len(known))}{ratio}"


VIEW = View(
    id="latency-table",
    title="Latency at every rate, by tier",
    lead=(
        "Means over seeds and, with 95 % intervals, ratios to all requests of gpu-only. A request "
        "belongs to the tier that made most of its decode tokens. A dash: too few requests for it."
    ),
    place="more",
    build=build,
)
