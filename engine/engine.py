"""The loop that all worlds share: arrivals, schedule, execute, commit, record."""

from collections.abc import Callable, Sequence

from apexbench.engine.books import Ended
from apexbench.engine.clock import Clock
from apexbench.engine.executors.base import Executor
from apexbench.engine.feeder import Feeder
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.recorder import Recorder
from apexbench.engine.scheduler import Scheduler
from apexbench.errors import InvariantError
from apexbench.records import RequestStatus

PROGRESS_EVERY_STEPS = 256

Progress = Callable[[int, int], None]  # (requests completed, virtual ns)
StepObserver = Callable[[StepPlan, StepResult, Scheduler], None]


class Engine:
    """Runs a workload to its end, to `stop_ns`, or until `should_stop` says so between two steps.
    Scheduler, executor and clock are given.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        executor: Executor,
        clock: Clock,
        feeder: Feeder,
        recorder: Recorder,
        stop_ns: int | None = None,
        on_progress: Progress | None = None,
        observers: Sequence[StepObserver] = (),
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._clock = clock
        self._feeder = feeder
        self._recorder = recorder
        self._stop_ns = stop_ns
        self._on_progress = on_progress
        self._observers = observers
        self._should_stop = should_stop
        self._num_steps = 0

    @property
    def num_steps(self) -> int:
        """Steps run so far."""
        return self._num_steps

    def run(self) -> None:
        """Serve everything; afterwards the recorder holds a record of every request."""
        self._recorder.checkpoint(0, self._scheduler)
        while self._is_before_stop():
            self._take_arrivals()
            plan = self._next_plan()
            if plan is not None:
                self._step(plan)
            elif not self._wait():
                break
        self._close()

    def _is_before_stop(self) -> bool:
        if self._should_stop is not None and self._should_stop():
            return False
        return self._stop_ns is None or self._clock.now_ns() < self._stop_ns

    def _take_arrivals(self) -> None:
        now = self._clock.now_ns()
        while due := self._feeder.due(now):  # a refusal lets the next of a closed loop in
            for request in due:
                self._executor.admit(request)
                self._recorder.on_arrival(request, self._feeder.arrival_ns(request))
                self._scheduler.add(request, self._feeder.arrival_ns(request))
            self._collect_ended()

    def _next_plan(self) -> StepPlan | None:
        now = self._clock.now_ns()
        scheduler = self._scheduler
        joinable: frozenset[int] = frozenset()
        if scheduler.needs_tickets and len(scheduler.cohorts):
            joinable = self._executor.joinable(scheduler.cohorts.ids(), now)
        plan = scheduler.schedule(self._executor.copied(now), joinable, now)
        self._collect_ended()
        return plan

    def _step(self, plan: StepPlan) -> None:
        result = self._executor.execute(plan, self._clock.now_ns())
        self._clock.advance_to(result.end_ns)
        self._scheduler.commit(plan, result)
        self._recorder.on_step(plan, plan.strategy, result, self._scheduler)
        self._collect_ended()
        for observe in self._observers:
            observe(plan, result, self._scheduler)
        self._num_steps += 1
        if self._on_progress is not None and self._num_steps % PROGRESS_EVERY_STEPS == 0:
            self._on_progress(self._recorder.num_completed, result.end_ns)

    def _wait(self) -> bool:
        """Let time pass until something can change; False when nothing will."""
        if self._feeder.has_due(self._clock.now_ns()):  # what ended without a step made room
            return True
        times = (self._feeder.next_arrival_ns(), self._executor.next_completion_ns())
        upcoming = [time for time in times if time is not None]
        if not upcoming:
            if self._scheduler.num_in_flight or self._feeder.num_left:
                raise InvariantError(
                    f"the scheduler is stuck with {self._scheduler.num_in_flight} sequences"
                )
            return False
        until = max(min(upcoming), self._clock.now_ns())
        self._executor.idle_until(until)
        self._clock.advance_to(until)
        return True

    def _collect_ended(self) -> None:
        if not self._scheduler.has_ended:
            return
        now = self._clock.now_ns()
        for ended in self._scheduler.take_ended():
            self._recorder.on_end(ended, now)
            self._executor.release(ended.sequence.id)
            self._feeder.on_end(ended.sequence.id)

    def _close(self) -> None:
        """What is still in flight or was never sent is unfinished, and says so."""
        now = self._clock.now_ns()
        for sequence in list(self._scheduler.sequences.values()):
            reason = "the run ended first"
            self._recorder.on_end(Ended(sequence, RequestStatus.UNFINISHED, reason), now)
        for request in self._feeder.rest():
            self._recorder.on_never_sent(request)
        self._recorder.checkpoint(now, self._scheduler)
