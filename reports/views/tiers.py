"""Latency by the tier that served a request; an overall median hides the slow tier."""

from collections.abc import Iterator
from typing import Any, Literal

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.palette import LANE_COLORS
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import axis, drawn, figure, label, patch_legend, seconds_axis
from apexbench.reports.wording import count, rate, seconds
from apexbench.result import Setting

Tier = Literal["gpu", "cpu"]
_TIERS: tuple[Tier, ...] = ("gpu", "cpu")
_NAMES = {"gpu": "GPU tier", "cpu": "CPU tier"}
_SYMBOLS = {"gpu": "circle", "cpu": "diamond"}
_ROW_HEIGHT = 34
_FRAME_HEIGHT = 90
_LATENCIES = ("ttft", "tpot", "e2e")


def build(outcome: Outcome) -> Iterator[Panel]:
    """One chart per judged rate and scenario."""
    for position, scenario in enumerate(outcome.scenarios):
        panels = list(_panels(outcome, position, scenario))
        yield from panels or [
            nothing("tiers", position, scenario.name, "no request completed on any tier.")
        ]


def _panels(outcome: Outcome, position: int, scenario: Scenario) -> Iterator[Panel]:
    for setting in (scenario.online, scenario.saturation):
        names = [v.id for v in outcome.variants_at(setting) if _has_tier(outcome, setting, v.id)]
        if setting is not None and names:
            where = rate(setting.rate_label, setting.rate_rps)
            hint = "Further left is better. A deferred row makes one token in layers + 1 steps."
            yield Panel(
                f"tiers-{position}-{'online' if setting == scenario.online else 'saturation'}",
                f"Median TPOT by tier at {where}",
                hint,
                _chart(outcome, setting, names),
                position,
            )


def _has_tier(outcome: Outcome, setting: Setting | None, name: str) -> bool:
    return any(outcome.mean(setting, name, _metric(tier, "tpot")) for tier in _TIERS)


def _metric(tier: Tier, latency: str) -> str:
    return f"{tier}_tier_{latency}_p50_s"


def _chart(outcome: Outcome, setting: Setting, names: list[str]) -> Chart:
    traces = [_points(outcome, setting, names, tier) for tier in _TIERS]
    drawing = figure(
        traces,
        seconds_axis("TPOT p50, log scale", [value for trace in traces for value in trace["x"]]),
        axis("", type="category", autorange="reversed"),
    )
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(names)
    legend = patch_legend({_NAMES[tier]: LANE_COLORS[tier] for tier in _TIERS})
    return Chart(
        drawing, height, _summary(outcome, setting, names), _table(outcome, setting, names), legend
    )


def _points(outcome: Outcome, setting: Setting, names: list[str], tier: Tier) -> dict[str, Any]:
    values = [outcome.mean(setting, name, _metric(tier, "tpot")) for name in names]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _NAMES[tier],
        "meta": _NAMES[tier],
        "x": drawn(values),
        "y": [label(name) for name in names],
        "marker": {"color": LANE_COLORS[tier], "symbol": _SYMBOLS[tier], "size": 12},
        "hovertemplate": "%{y}, %{fullData.name}: %{x:.3~g} s<extra></extra>",
    }


def _table(outcome: Outcome, setting: Setting, names: list[str]) -> Table:
    rows = []
    for name in names:
        for tier in _TIERS:
            found = [run.latency_by_tier.get(tier) for run in outcome.runs(setting, name)]
            requests = sum(latency.requests for latency in found if latency) or None
            medians = (outcome.mean(setting, name, _metric(tier, part)) for part in _LATENCIES)
            rows.append((name, _NAMES[tier], count(requests), *map(seconds, medians)))
    columns = ("policy", "tier", "requests, all seeds", "TTFT p50", "TPOT p50", "E2E p50")
    return Table(columns, tuple(rows), frozenset(range(2, len(columns))))


def _summary(outcome: Outcome, setting: Setting, names: list[str]) -> str:
    texts = []
    for name in names:
        gpu, cpu = (outcome.mean(setting, name, _metric(tier, "tpot")) for tier in _TIERS)
        cpu_text = f", CPU tier {seconds(cpu)}" if cpu is not None else ""
        texts.append(f"{name}: GPU tier {seconds(gpu)}{cpu_text}")
    return "; ".join(texts) + "."


VIEW = View(
    id="tiers",
    title="TPOT by tier",
    lead="What a request served by the CPU waits for each token, beside one served by the GPU.",
    place="more",
    build=build,
)
