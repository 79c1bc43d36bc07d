"""The simulated executor: durations from the truth cost model, overlap from the lanes.

Tokens are counted, not computed. The true output lengths live here and nowhere above.
"""

from functools import partial

from apexbench.engine.costs import CostModel
from apexbench.engine.executors.durations import Durations, StepCosts
from apexbench.engine.executors.lane_machine import LaneMachine
from apexbench.engine.executors.lanes import Job
from apexbench.engine.executors.spans import SpanRecorder
from apexbench.engine.executors.timelines import TimelineKeeper
from apexbench.engine.executors.token_counter import TokenCounter
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.program import Carry, build
from apexbench.engine.sequence import Tier
from apexbench.records import Request, StepTimeline


class SimulatedExecutor:
    """Charges `truth` for every op. `extrapolates=False` simulates every layer of every step."""

    def __init__(self, truth: CostModel, *, extrapolates: bool = True) -> None:
        self.machine = LaneMachine(extrapolates=extrapolates)
        self._costs = StepCosts(truth)
        self._num_layers = truth.num_layers
        self._carry = Carry()
        self._tokens = TokenCounter()
        self._copies: list[tuple[Job, tuple[int, ...]]] = []
        self._keeper = TimelineKeeper()

    def admit(self, request: Request) -> None:
        """Learn the true output length of a request."""
        self._tokens.admit(request)

    def release(self, request_id: int) -> None:
        """Forget an ended request."""
        self._tokens.release(request_id)

    def execute(self, plan: StepPlan, now_ns: int) -> StepResult:
        """Run the plan's program on the lanes; the step ends when it samples."""
        num_layers = self._num_layers
        before = self._carry
        program, self._carry = build(plan, before, num_layers)
        durations = Durations(plan, self._costs)
        cohorts = tuple([step.cohort for step in plan.cohorts])
        recorder = None
        if self._keeper.wants(plan, plan.strategy):
            recorder = SpanRecorder(self.machine, plan, before)
        end_ns = self.machine.run(program, cohorts, durations, now_ns)
        outstanding = self._carry.cohorts
        sampling = [step for step in plan.cohorts if step.cohort not in outstanding]
        for step in sampling:
            del self.machine.tickets[step.cohort]
        if program.shape.has_offload:
            self._remember_copies(plan)
        result = StepResult(now_ns, end_ns, *self._tokens.sample(plan, sampling))
        if recorder is not None:
            recorder.finish(end_ns)
            self._keeper.keep(plan, result, partial(recorder.spans, durations))
        return result

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time per lane until now, in the order of records.LANES."""
        self.machine.flush(self.machine.gpu.free)
        return self.machine.busy_ns

    @property
    def overlap_ns(self) -> int:
        """Time until now in which GPU and CPU lane both worked."""
        self.machine.flush(self.machine.gpu.free)
        return self.machine.overlap_ns

    @property
    def idle_ns(self) -> tuple[int, ...]:
        """GPU idle time by reason, in the order of records.IDLE_REASONS."""
        return tuple(self.machine.gpu.idle)

    @property
    def timelines(self) -> tuple[StepTimeline, ...]:
        """Representative steps with all their ops."""
        return self._keeper.timelines()

    def joinable(self, cohorts: tuple[int, ...], now_ns: int) -> frozenset[int]:
        """Cohorts whose CPU attention is done by now."""
        machine = self.machine
        return frozenset(
            cohort for cohort in cohorts if machine.cpu.is_done(machine.tickets[cohort], now_ns)
        )

    def copied(self, now_ns: int) -> tuple[int, ...]:
        """Sequences whose prompt KV has reached the host; each is reported once."""
        if not self._copies:
            return ()
        lane = self.machine.side["d2h"]
        done = [copy for copy in self._copies if lane.is_done(copy[0], now_ns)]
        self._copies = [copy for copy in self._copies if copy not in done]
        return tuple(sequence for _, sequences in done for sequence in sequences)

    def next_completion_ns(self) -> int | None:
        """When the oldest outstanding prompt copy completes."""
        if not self._copies:
            return None
        return self.machine.side["d2h"].expected_finish(self._copies[0][0])

    def idle_until(self, time_ns: int) -> None:
        """Let the GPU idle for want of work."""
        self.machine.idle_until(time_ns)

    def _remember_copies(self, plan: StepPlan) -> None:
        """The step's last layer is the last to leave; its job completes the prompt's copy."""
        sequences = tuple(
            chunk.sequence
            for chunk in plan.batches[0].chunks
            if chunk.tier is Tier.CPU and chunk.is_last
        )
        job = self.machine.last_offload
        if sequences and job is not None:
            self._copies.append((job, sequences))
