"""Saturation over a grid of values, everything else held: what to run, and what the runs say."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from apexbench.compare import caveats
from apexbench.compare.cells import Cell
from apexbench.compare.matrix import BACKLOG, setting_document, workload_of
from apexbench.compare.pool import Batch
from apexbench.compare.scenarios import Scenario
from apexbench.compare.sweep_grids import (
    OUTPUT_SCALE,
    PARAMETERS,
    Grid,
    Values,
    in_words,
    parse_grids,
    scenario_at,
)
from apexbench.compare.variants import BASELINE, VariantSpec
from apexbench.config import CompareConfig
from apexbench.errors import ApexbenchError, InputError, UsageError
from apexbench.metrics.comparisons import comparisons
from apexbench.records import Workload
from apexbench.result import Comparison, Run, Setting, Sweep, SweepPoint
from apexbench.workloads.build import scaled_outputs, within

SWEEP_REQUESTS = 1600
"""Most requests of a run of a sweep: two thirds of the usual backlog, as there are many points.

With fewer, deferred requests on the default T4 stay too long for a steady window.
"""

_THROUGHPUT = "output_throughput_tok_s"


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    """One combination of values with its cells, in the order of variants and seeds."""

    values: tuple[float, ...]
    setting: Setting
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """One grid on one scenario. Every point serves the same requests."""

    scenario: Scenario
    grid: Grid
    points: tuple[_Point, ...]
    num_requests: int  # asked for, per run
    num_left_out: int  # of all seeds together, because they do not fit at every point
    num_built: int


@dataclass(slots=True, eq=False)
class Sweeps:
    """All grids on all scenarios, as far as they have come; one batch, point after point."""

    plans: tuple[_Plan, ...] = ()
    batch: Batch = field(default_factory=lambda: Batch(()))

    @classmethod
    def prepare(
        cls,
        config: CompareConfig,
        scenarios: Sequence[Scenario],
        variants: tuple[VariantSpec, ...],
        seeds: Sequence[int],
    ) -> "Sweeps":
        """Every cell of every point; UsageError or InputError where a point cannot be had."""
        grids = parse_grids(config)
        plans = tuple(
            _planned(grid, scenario, config, variants, seeds)
            for grid in grids
            for scenario in scenarios
        )
        return cls(plans, Batch([c for plan in plans for p in plan.points for c in p.cells]))

    def findings(self) -> tuple[Sweep, ...]:
        """Points of which every run has ended; a sweep without any is left out."""
        found = (
            Sweep(
                scenario=plan.scenario.id,
                parameters=plan.grid.parameters,
                baseline=BASELINE,
                num_requests=plan.num_requests,
                nominal=tuple(PARAMETERS[n].nominal(plan.scenario) for n in plan.grid.parameters),
                points=tuple(p for point, runs in ended for p in _summaries(point, runs)),
            )
            for plan, ended in self._ended()
        )
        return tuple(sweep for sweep in found if sweep.points)

    def notes(self) -> Iterator[str]:
        """What a reader must know of the sweeps."""
        for plan in self.plans:
            name, what = plan.scenario.id, " and ".join(plan.grid.parameters)
            if plan.num_requests < plan.scenario.backlog_requests:
                yield caveats.swept_shorter(
                    name, what, plan.num_requests, plan.scenario.backlog_requests
                )
            if plan.num_left_out:
                yield caveats.swept_without(name, what, plan.num_left_out, plan.num_built)
        for plan, ended in self._ended():
            unsteady = _unsteady(plan, ended)
            if unsteady:
                what = " and ".join(plan.grid.parameters)
                yield caveats.swept_unsteady(plan.scenario.id, what, unsteady)

    @property
    def simulated_s(self) -> float:
        """Virtual seconds of all runs that ended."""
        return sum(result.simulated_s for result in self.batch.ordered())

    def _ended(self) -> Iterator[tuple[_Plan, list[tuple[_Point, list[Run]]]]]:
        """Per plan its points that are complete, with the runs that did not fail."""
        first = 0
        for plan in self.plans:
            ended = []
            for point in plan.points:
                places = range(first, first + len(point.cells))
                first += len(point.cells)
                if all(self._has_ended(place) for place in places):
                    results = map(self.batch.results.get, places)
                    ended.append((point, [result.run for result in results if result is not None]))
            yield plan, ended

    def _has_ended(self, place: int) -> bool:
        return place in self.batch.results or place in self.batch.failures


def _planned(
    grid: Grid,
    scenario: Scenario,
    config: CompareConfig,
    variants: tuple[VariantSpec, ...],
    seeds: Sequence[int],
) -> _Plan:
    short = replace(scenario, backlog_requests=min(scenario.backlog_requests, SWEEP_REQUESTS))
    full = {seed: workload_of(short, None, seed, None) for seed in seeds}
    placed = [(values, _placed(scenario, config, variants, values)) for values in grid.points()]
    held = {seed: _held(workload, placed) for seed, workload in full.items()}
    num_built = sum(len(workload.requests) for workload in full.values())
    return _Plan(
        scenario=scenario,
        grid=grid,
        points=tuple(_point(moved, values, held) for values, moved in placed),
        num_requests=short.backlog_requests,
        num_left_out=num_built - sum(len(workload.requests) for workload in held.values()),
        num_built=num_built,
    )


def _placed(
    scenario: Scenario,
    config: CompareConfig,
    variants: tuple[VariantSpec, ...],
    values: Values,
) -> Scenario:
    try:
        return scenario_at(scenario, config, variants, values)
    except (UsageError, InputError) as error:
        raise type(error)(_at_fault(scenario, values, error)) from error


def _at_fault(scenario: Scenario, values: Values, error: ApexbenchError) -> str:
    return f"sweep on {scenario.id} at {in_words(values)}: {error}"


def _held(workload: Workload, placed: Sequence[tuple[Values, Scenario]]) -> Workload:
    """The requests that fit at every point, so that the points differ by their values alone."""
    kept = workload
    for values, scenario in placed:
        limit = min(scenario.served_tokens, scenario.max_context.tokens)
        try:
            kept = within(kept, limit, output_scale=values.get(OUTPUT_SCALE, 1.0))
        except InputError as error:
            raise InputError(_at_fault(scenario, values, error)) from error
    return kept


def _point(scenario: Scenario, values: Values, held: Mapping[int, Workload]) -> _Point:
    setting_id = f"{scenario.id}/{in_words(values)}"
    scale = values.get(OUTPUT_SCALE)
    workloads = {
        seed: workload if scale is None else scaled_outputs(workload, scale)
        for seed, workload in held.items()
    }
    cells = tuple(
        Cell(setting_id, placement, workload, scenario.slo, None, seed, keeps_details=False)
        for placement in scenario.placements
        for seed, workload in workloads.items()
    )
    document = setting_document(scenario, setting_id, BACKLOG, None, cells[0].workload)
    return _Point(tuple(values.values()), document, cells)


def _summaries(point: _Point, runs: Sequence[Run]) -> Iterator[SweepPoint]:
    pairs, _ = comparisons(runs, (point.setting,), BASELINE)
    ratios = {pair.candidate: pair for pair in pairs if pair.metric == _THROUGHPUT}
    for variant, own in _by_variant(runs).items():
        yield _summary(point.values, own, ratios.get(variant))


def _summary(
    values: tuple[float, ...], runs: Sequence[Run], found: Comparison | None
) -> SweepPoint:
    """One variant at one point: means over seeds, and the ratio if there is one."""
    medians = [p50 for run in runs if (p50 := run.metrics.tpot_s.p50) is not None]
    p90s = [p90 for run in runs if (p90 := run.metrics.tpot_s.p90) is not None]
    first = runs[0]
    return SweepPoint(
        values=values,
        variant=first.variant,
        output_throughput_tok_s=_mean(run.metrics.output_throughput_tok_s for run in runs),
        gpu_kv_tokens=first.gpu_kv_tokens,
        cpu_kv_tokens=first.cpu_kv_tokens,
        tpot_p50_s=_mean(medians) if medians else None,
        tpot_p90_s=_mean(p90s) if len(p90s) == len(runs) else None,
        n=len(runs),
        is_steady=all(run.window.is_steady for run in runs),
        ratio=None if found is None else found.ratio,
        ci_low=None if found is None else found.ci_low,
        ci_high=None if found is None else found.ci_high,
        verdict=None if found is None else found.verdict,
    )


def _by_variant(runs: Iterable[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.variant, []).append(run)
    return found


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _unsteady(plan: _Plan, ended: Sequence[tuple[_Point, Sequence[Run]]]) -> dict[str, int]:
    """Variant -> points at which some of its runs were not steady."""
    names = [placement.variant.id for placement in plan.scenario.placements]
    places = [{run.variant for run in runs if not run.window.is_steady} for _, runs in ended]
    counts = {name: sum(name in place for place in places) for name in names}
    return {name: count for name, count in counts.items() if count}
