"""One run in real time: a cell on lanes that a bench opens, and what is known of it afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from apexbench.compare.cells import Backend, Cell, CellResult, columns, keeps_steps, run_of
from apexbench.compare.realtime.bench import Bench, OpenLanes, Overhead, host_need
from apexbench.compare.realtime.lane_log import (
    LaneLog,
    measured_times,
    predicted_times,
    prediction_errors,
    python_times,
    totals,
)
from apexbench.compare.realtime.trust import Watch, distrust
from apexbench.engine.costs import CostModel
from apexbench.engine.policies.base import Targets
from apexbench.engine.running import RunSpec, run
from apexbench.engine.tiers import Pools
from apexbench.records import NS_PER_S, RunLog
from apexbench.result import Measured, Run, Spread, StepTimes, StepTrace

POLL_NS = NS_PER_S // 5
"""The shortest time between two reports of progress."""


@dataclass(frozen=True, slots=True)
class Tick:
    """How far a run has come."""

    completed: int
    tokens_per_s: float


OnTick = Callable[[Tick], None]  # may raise KeyboardInterrupt: the run then ends between two steps


@dataclass(frozen=True, slots=True)
class Watching:
    """Who is told of progress, and who counts what others do to the machine meanwhile."""

    on_tick: OnTick
    watch: Callable[[], Watch]


def run_real_cell(cell: Cell, bench: Bench, backend: Backend, watching: Watching) -> CellResult:
    """Run and measure one cell; KeyboardInterrupt if `on_tick` raised it, the lanes closed."""
    belief = bench.belief(cell.placement)
    spec = _spec(cell, belief)
    with bench.open(cell, spec.pools) as lanes:
        ticker = Ticker(watching.on_tick, LaneLog(lanes.executor), lanes)
        watch = watching.watch()
        log = run(
            spec,
            lanes.executor,
            lanes.clock,
            lanes.num_layers,
            observers=(ticker.log.on_step,),
            should_stop=ticker.should_stop,
        )
        disturbance, overhead = watch.disturbance(), lanes.overhead()
    if ticker.is_stopped:
        raise KeyboardInterrupt
    found = _Found(cell, log, ticker.log, overhead, disturbance)
    document = _with_measurements(run_of(cell, log, backend), found, bench, belief)
    return CellResult(document, columns(log.requests), simulated_s=0.0)


@dataclass(slots=True, eq=False)
class Ticker:
    """Asked between steps: reports progress now and then, and knows whether to stop."""

    on_tick: OnTick
    log: LaneLog
    lanes: OpenLanes
    is_stopped: bool = False
    due_ns: int = 0

    def should_stop(self) -> bool:
        """Whether a report has been answered by KeyboardInterrupt."""
        now = self.lanes.clock.now_ns()
        if now >= self.due_ns and not self.is_stopped:
            self.due_ns = now + POLL_NS
            rate = self.log.output_tokens * NS_PER_S / max(1, now)
            try:
                self.on_tick(Tick(self.log.completed, rate))
            except KeyboardInterrupt:
                self.is_stopped = True
        return self.is_stopped


def pools_for(cell: Cell) -> Pools:
    """The KV pools of a cell. The host's is real memory: no more than its requests can ever use."""
    placement = cell.placement
    machine, capacity = placement.hardware, placement.capacity
    useful = min(capacity.cpu_kv_tokens, host_need(cell.workload.requests))
    return Pools(
        gpu_tokens=capacity.gpu_kv_tokens,
        cpu_tokens=useful if placement.variant.entry.uses_cpu else 0,
        gpu_block_tokens=machine.gpu_block_tokens,
        cpu_block_tokens=machine.cpu_block_tokens,
    )


def _spec(cell: Cell, belief: CostModel) -> RunSpec:
    placement = cell.placement
    return RunSpec(
        workload=cell.workload,
        policy=placement.variant.entry.name,
        belief=belief,
        pools=pools_for(cell),
        thresholds=placement.thresholds,
        targets=Targets(cell.slo.ttft_s, cell.slo.tpot_s),
        keeps_steps=keeps_steps(cell),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What a run left behind."""

    cell: Cell
    log: RunLog
    lanes: LaneLog
    overhead: Overhead
    disturbance: str | None


def _with_measurements(document: Run, found: _Found, bench: Bench, belief: CostModel) -> Run:
    placement, steps = found.cell.placement, found.lanes.steps
    measured = measured_times(steps)
    predicted = predicted_times(steps, belief, found.cell.workload.requests)
    reason = distrust(found.disturbance, found.overhead.lateness, measured)
    facts = Measured(
        is_trustworthy=reason is None,
        distrust=reason,
        gpu_threads=bench.gpu_threads(placement),
        cpu_threads=placement.hardware.cpu_threads,
        host_kv_tokens_limit=bench.host_limit(placement),
        python_s_per_step=spread(python_times(steps)),
        lane_cpu_s={lane: ns / NS_PER_S for lane, ns in found.overhead.lane_cpu_ns.items()},
        lane_measured_s=totals(measured),
        lane_predicted_s=totals(predicted),
        lane_prediction_error=prediction_errors(predicted, measured),
        lateness_s=found.overhead.lateness,
    )
    indices = [step.plan.index for step in steps]
    times = dict(zip(indices, measured, strict=True)), dict(zip(indices, predicted, strict=False))
    traces = tuple(_traced(step, *times) for step in document.steps)
    return document.model_copy(update={"measured": facts, "steps": traces})


def _traced(
    step: StepTrace, measured: dict[int, StepTimes], predicted: dict[int, StepTimes]
) -> StepTrace:
    times = {"measured": measured.get(step.step), "predicted": predicted.get(step.step)}
    return step.model_copy(update=times)


def spread(seconds: Sequence[float]) -> Spread | None:
    """How durations are spread; None without any."""
    if not seconds:
        return None
    p50, p99 = np.quantile(seconds, (0.5, 0.99)).tolist()
    mean = float(np.mean(seconds))
    return Spread(mean=mean, p50=p50, p99=p99, max=max(seconds), n=len(seconds))
