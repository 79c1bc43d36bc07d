"""What every step of a run took on each lane, and what a cost model says it should have taken."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from apexbench.engine.costs import CostModel
from apexbench.engine.executors.base import Meter
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.scheduler import Scheduler
from apexbench.records import IDLE_REASONS, LANES, NS_PER_S, Request
from apexbench.result import StepTimes

STEP = "step"
PREDICTED_LANES = LANES[:4]
_HOST, _NO_WORK = LANES.index("host"), IDLE_REASONS.index("no_work")
GROUP_STEPS = 16
"""Steps whose busy time is compared together: work of a cohort ends in another step than the one
that began it, so single steps of a lane would differ even where the prediction is right."""


@dataclass(frozen=True, slots=True)
class LoggedStep:
    """One step of a run; `busy_ns` is the lanes' busy time until its end, in the order of LANES."""

    plan: StepPlan
    start_ns: int
    end_ns: int
    busy_ns: tuple[int, ...]
    unemployed_ns: int  # likewise: time of the GPU lane without any work
    has_failures: bool


class LaneLog:
    """Told of every step; does as little as it can, because it runs between steps."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.steps: list[LoggedStep] = []
        self.output_tokens = 0
        self.completed = 0

    def on_step(self, plan: StepPlan, result: StepResult, _: Scheduler) -> None:
        """The step has been run."""
        meter = self._meter
        self.output_tokens += sum([count for _, count in result.tokens])
        self.completed += len(result.finished)
        self.steps.append(
            LoggedStep(
                *(plan, result.start_ns, result.end_ns),
                *(meter.busy_ns, meter.idle_ns[_NO_WORK], bool(result.failed)),
            )
        )


def measured_times(steps: Iterable[LoggedStep]) -> list[StepTimes]:
    """Step by step, from the running totals."""
    before = (0,) * len(LANES)
    found = []
    for step in steps:
        found.append(_times(step.end_ns - step.start_ns, before, step.busy_ns))
        before = step.busy_ns
    return found


def predicted_times(
    steps: Sequence[LoggedStep], belief: CostModel, requests: Iterable[Request]
) -> list[StepTimes]:
    """The same plans on simulated lanes that charge `belief`, with the pauses that there were.

    Shorter than `steps` where rows failed: what was dropped then is no part of any plan.
    """
    executor = SimulatedExecutor(belief)
    for request in requests:
        executor.admit(request)
    now, before = 0, executor.busy_ns
    found = []
    for step, pause in zip(steps, _pauses(steps), strict=True):
        if pause:
            executor.idle_until(now + pause)
        result = executor.execute(step.plan, now + pause)
        busy = executor.busy_ns
        found.append(_times(result.end_ns - result.start_ns, before, busy))
        now, before = result.end_ns, busy
        if step.has_failures:
            break
    return found


def python_times(steps: Sequence[LoggedStep]) -> list[float]:
    """Seconds of host work per step: between the steps, where there was work, and to begin one."""
    found = []
    host_ns = unemployed_ns = 0
    for step, pause in zip(steps, _pauses(steps), strict=True):
        working = max(0, pause - (step.unemployed_ns - unemployed_ns))
        found.append((working + step.busy_ns[_HOST] - host_ns) / NS_PER_S)
        host_ns, unemployed_ns = step.busy_ns[_HOST], step.unemployed_ns
    return found


def prediction_errors(
    predicted: Sequence[StepTimes], measured: Sequence[StepTimes]
) -> dict[str, float]:
    """Mean |predicted / measured - 1| by lane over groups of steps, of "step" over single ones."""
    pairs = list(zip(predicted, measured, strict=False))
    groups = [pairs[first : first + GROUP_STEPS] for first in range(0, len(pairs), GROUP_STEPS)]
    found = {}
    for lane in PREDICTED_LANES:
        error = _mean_error(_busy(lane, group) for group in groups)
        if error is not None:
            found[lane] = error
    error = _mean_error((p.step_s, m.step_s) for p, m in pairs)
    return found if error is None else found | {STEP: error}


def _busy(lane: str, group: Iterable[tuple[StepTimes, StepTimes]]) -> tuple[float, float]:
    """Predicted and measured seconds of a lane in some steps."""
    name = f"{lane}_s"
    both = [(getattr(p, name), getattr(m, name)) for p, m in group]
    return sum(p for p, _ in both), sum(m for _, m in both)


def totals(times: Iterable[StepTimes]) -> dict[str, float]:
    """Seconds by lane and of all steps, for lanes that did anything."""
    found = dict.fromkeys((*PREDICTED_LANES, STEP), 0.0)
    for step in times:
        for name in found:
            found[name] += getattr(step, f"{name}_s")
    return {name: value for name, value in found.items() if value > 0}


def _pauses(steps: Sequence[LoggedStep]) -> Iterator[int]:
    """Time without a step before each of them."""
    if steps:
        yield steps[0].start_ns
    for before, step in pairwise(steps):
        yield max(0, step.start_ns - before.end_ns)


def _times(step_ns: int, before: Sequence[int], after: Sequence[int]) -> StepTimes:
    gpu, cpu, h2d, d2h = (
        max(0, late - early) / NS_PER_S for early, late in zip(before[:4], after[:4], strict=True)
    )
    return StepTimes(step_s=step_ns / NS_PER_S, gpu_s=gpu, cpu_s=cpu, h2d_s=h2d, d2h_s=d2h)


def _mean_error(pairs: Iterable[tuple[float, float]]) -> float | None:
    errors = [abs(predicted / measured - 1) for predicted, measured in pairs if measured > 0]
    return sum(errors) / len(errors) if errors else None
