"""Maps of where the best hybrid gains or loses: over a grid of two values, and over the rates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apexbench.reports.heat_map import MapCell, heat_map, map_height
from apexbench.reports.outcome import GOODPUT, THROUGHPUT, TPOT, Outcome, Scenario, is_hybrid
from apexbench.reports.panels import Chart, Panel, Table, View
from apexbench.reports.standing import BETTER, WORSE, standing
from apexbench.reports.swept import swept_value, swept_words
from apexbench.reports.wording import describe, interval, rate, times
from apexbench.result import Comparison, Setting, Sweep, SweepPoint

_COLORS = "Blue is better than gpu-only, orange is worse; struck cells are not significant."
_GRID = f"The best hybrid of each cell against gpu-only of the same cell. {_COLORS}"
_GAIN = (
    "The hybrid that is best in each cell, against gpu-only: goodput at finite rates, output "
    f"throughput at saturation. {_COLORS}"
)
_PRICE = (
    "Median TPOT of the same hybrids as in the map beside it, against gpu-only; above 1 is slower. "
    f"{_COLORS}"
)


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """The hybrid that does best in a scenario at a rate."""

    scenario: Scenario
    setting: Setting
    best: Comparison

    @property
    def where(self) -> str:
        """The rate in words, short: multiples of gpu-only's saturation without saying so."""
        return rate(self.setting.rate_label, self.setting.rate_rps).removesuffix(" load")


def build(outcome: Outcome) -> Iterator[Panel]:
    """A map per grid of two parameters, then the two over scenarios and rates."""
    positions = {scenario.name: place for place, scenario in enumerate(outcome.scenarios)}
    for number, sweep in enumerate(outcome.result.sweeps):
        best = _best_points(outcome, sweep)
        if len(sweep.parameters) > 1 and best and sweep.scenario in positions:
            position = positions[sweep.scenario]
            title = f"Best hybrid over {' and '.join(map(swept_words, sweep.parameters))}"
            chart = _grid_chart(sweep, best)
            yield Panel(f"losses-map-{position}-{number}", title, _GRID, chart, position, True)
    yield from _rate_panels(tuple(_places(outcome)), outcome)


def _best_points(outcome: Outcome, sweep: Sweep) -> tuple[SweepPoint, ...]:
    """Per cell the hybrid with the highest ratio."""
    hybrids = {variant.id for variant in outcome.variants if is_hybrid(variant)}
    best: dict[tuple[float, ...], SweepPoint] = {}
    for point in sweep.points:
        if point.variant in hybrids and point.ratio is not None:
            rival = best.get(point.values)
            if rival is None or point.ratio > (rival.ratio or 0.0):
                best[point.values] = point
    return tuple(best[values] for values in sorted(best))


def _grid_chart(sweep: Sweep, best: Sequence[SweepPoint]) -> Chart:
    """The first parameter goes right, the second up."""
    cells = [
        MapCell(
            swept_value(point.values[0]),
            swept_value(point.values[1]),
            point.ratio or 1.0,
            standing(point) in (BETTER, WORSE),
            higher_is_better=True,
            words=f"{point.variant} {times(point.ratio)}",
        )
        for point in best
    ]
    columns = [swept_value(value) for value in sorted({p.values[0] for p in best})]
    rows = [swept_value(value) for value in sorted({p.values[1] for p in best}, reverse=True)]
    x, y = map(swept_words, sweep.parameters)
    drawing = heat_map(cells, columns, rows, x, y)
    return Chart(drawing, map_height(rows), _grid_summary(sweep, best), _grid_table(sweep, best))


def _grid_table(sweep: Sweep, best: Sequence[SweepPoint]) -> Table:
    rows = [
        (
            *map(swept_value, point.values),
            point.variant,
            times(point.ratio),
            interval(point.ci_low, point.ci_high),
            str(point.n),
            standing(point).words,
        )
        for point in best
    ]
    names = map(swept_words, sweep.parameters)
    columns = (*names, "best hybrid", "ratio", "95 % interval", "seeds", "verdict")
    return Table(columns, tuple(rows), frozenset({0, 1, 3, 4, 5}))


def _grid_summary(sweep: Sweep, best: Sequence[SweepPoint]) -> str:
    marks = [standing(point) for point in best]
    worst = min(best, key=lambda point: point.ratio or 0.0)
    where = " and ".join(
        f"{swept_words(name)} {swept_value(value)}"
        for name, value in zip(sweep.parameters, worst.values, strict=True)
    )
    return (
        f"The best hybrid is better than gpu-only in {marks.count(BETTER)} and worse in "
        f"{marks.count(WORSE)} of {len(best)} cells; least at {where}: {worst.variant} "
        f"{times(worst.ratio)}."
    )


def _places(outcome: Outcome) -> Iterator[_Place]:
    """Every scenario and rate at which some hybrid is compared."""
    for scenario in outcome.scenarios:
        for setting in scenario.settings:
            metric = THROUGHPUT if setting.rate_rps is None else GOODPUT
            found = [outcome.comparison(setting, v.id, metric) for v in outcome.hybrids_at(setting)]
            known = [comparison for comparison in found if comparison is not None]
            if known:
                yield _Place(scenario, setting, max(known, key=lambda c: c.ratio))


def _rate_panels(places: Sequence[_Place], outcome: Outcome) -> Iterator[Panel]:
    """The gain, and beside it what it costs each running request."""
    if len(places) > 1:
        chart = _rate_chart({place: place.best for place in places})
        yield Panel("losses-map-gain", "Best hybrid at every rate", _GAIN, chart)
    prices = {
        place: found
        for place in places
        if place.setting.rate_rps is not None
        and (found := outcome.comparison(place.setting, place.best.candidate, TPOT))
    }
    if len(prices) > 1:
        chart = _rate_chart(prices)
        yield Panel("losses-map-price", "What it costs in median TPOT", _PRICE, chart)


def _rate_chart(found: Mapping[_Place, Comparison]) -> Chart:
    cells = [
        MapCell(
            place.where,
            place.scenario.name,
            comparison.ratio,
            standing(comparison) in (BETTER, WORSE),
            higher_is_better=comparison.metric != TPOT,
            words=f"{comparison.candidate}: {describe(comparison.metric).name} "
            f"{times(comparison.ratio)}",
        )
        for place, comparison in found.items()
    ]
    columns = list(dict.fromkeys(place.where for place in _by_load(found)))
    rows = list(dict.fromkeys(cell.row for cell in cells))
    drawing = heat_map(cells, columns, rows, "offered rate", "")
    return Chart(drawing, map_height(rows), _rate_summary(found), _rate_table(found))


def _by_load(places: Mapping[_Place, Comparison]) -> list[_Place]:
    """Multiples of saturation by their size, then plain rates, saturation last."""

    def key(place: _Place) -> tuple[int, float]:
        text, rps = place.setting.rate_label, place.setting.rate_rps
        if rps is None:
            return 2, 0.0
        return (0, float(text.removesuffix("x"))) if text.endswith("x") else (1, rps)

    return sorted(places, key=key)


def _rate_table(found: Mapping[_Place, Comparison]) -> Table:
    rows = [
        (
            place.scenario.name,
            place.where,
            comparison.candidate,
            describe(comparison.metric).name,
            times(comparison.ratio),
            interval(comparison.ci_low, comparison.ci_high),
            standing(comparison).words,
        )
        for place, comparison in found.items()
    ]
    columns = ("scenario", "rate", "hybrid", "metric", "ratio", "95 % interval", "verdict")
    return Table(columns, tuple(rows), frozenset({4, 5}))


def _rate_summary(found: Mapping[_Place, Comparison]) -> str:
    marks = [standing(comparison) for comparison in found.values()]
    return (
        f"Better than gpu-only in {marks.count(BETTER)} of {len(marks)} cells, worse in "
        f"{marks.count(WORSE)}, undecided in the others."
    )


VIEW = View(
    id="losses-map",
    title="Map of gains and losses",
    lead="Even the best hybrid loses somewhere; this is where.",
    place="more",
    build=build,
)
