"""The executor of real time: every lane a thread, every step the same program as in simulation."""

import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from apexbench.engine.clock import Clock
from apexbench.engine.executors.threads.attention_lane import AttentionLane
from apexbench.engine.executors.threads.graph import Graphs
from apexbench.engine.executors.threads.lane import LaneThread
from apexbench.engine.executors.threads.meter import LaneMeter
from apexbench.engine.executors.threads.spans import spans_of
from apexbench.engine.executors.threads.step_run import OpRun, StepRun, rows_of
from apexbench.engine.executors.threads.work import Backend
from apexbench.engine.executors.timelines import TimelineKeeper
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.program import Carry, build
from apexbench.engine.sequence import Tier
from apexbench.records import NS_PER_S, Request, StepTimeline

_COPY_LANES = ("h2d", "d2h")
_POLL_NS = 1_000_000  # how long to wait at most for a copy before looking again


class ThreadedExecutor:
    """Runs plans on `backend` by the wall clock. A context manager: leaving it ends the threads.

    `pins` are called first thing on a lane's thread, by lane.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        pins: dict[str, Callable[[], None]] | None = None,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._lock = threading.Lock()
        self._meter = LaneMeter()
        self._keeper = TimelineKeeper()
        self._graphs = Graphs()
        self._carry = Carry()
        self._tickets: dict[int, OpRun] = {}
        self._last_offload: OpRun | None = None
        self._copies: list[tuple[OpRun, tuple[int, ...]]] = []
        self._alive: set[int] = set()
        self._late_failures: dict[int, str] = {}
        self._moved = threading.Event()  # a bulk copy has ended
        self.attention = AttentionLane(clock, self._on_done)
        self.lanes = {
            name: LaneThread(name, clock, self._on_done) for name in ("gpu", *_COPY_LANES)
        }
        for name, pin in (pins or {}).items():
            self.lanes[name].begins = pin

    def __enter__(self) -> Self:
        for lane in self.lanes.values():
            lane.start()
        self.attention.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for lane in self.lanes.values():
            lane.close()
        self.attention.close()

    # -- requests ------------------------------------------------------------------------------

    def admit(self, request: Request) -> None:
        """A request exists from now on."""
        self._alive.add(request.id)
        self._backend.admit(request)

    def release(self, request_id: int) -> None:
        """The request has ended; forget it."""
        self._alive.discard(request_id)
        self._late_failures.pop(request_id, None)
        self._backend.release(request_id)

    # -- steps ---------------------------------------------------------------------------------

    def execute(self, plan: StepPlan, now_ns: int) -> StepResult:
        """Run one step; returns when its tokens are sampled. Deferred work goes on."""
        step, carry = self._begin(plan, now_ns)
        self._start(step)
        step.sampled.get()
        end_ns = self._clock.now_ns()
        self._carry = carry
        self._remember_tickets(step)
        result = self._result(step, end_ns)
        self._remember_copies(step, dict(result.failed))
        if self._keeper.wants(plan, plan.strategy):
            spans = partial(spans_of, step, end_ns, self._backend.num_layers)
            self._keeper.keep(plan, result, spans)
        else:
            step.awaited.clear()  # or every step would keep all steps before it
        return result

    def _begin(self, plan: StepPlan, now_ns: int) -> tuple[StepRun, Carry]:
        program, carry = build(plan, self._carry, self._backend.num_layers)
        work = self._backend.begin(plan, self._carry)
        return StepRun(plan, work, self._graphs.of(program), now_ns), carry

    def _start(self, step: StepRun) -> None:
        """Hand the ops to the lanes; the host's own op, which comes first, has just been done."""
        schedule = step.runs[0]
        with self._lock:
            step.await_earlier(self._tickets, self._last_offload)
        for name, lane in self.lanes.items():
            lane.queue(step.on_lane(name))
        schedule.start_ns, schedule.end_ns = step.start_ns, self._clock.now_ns()
        self._on_done(schedule)

    def _on_done(self, run: OpRun) -> None:
        """An op has ended, on whatever thread: let those go on that waited for it."""
        if run.error is not None:
            run.step.work.give_up(run.op)
        ready: list[OpRun] = []
        with self._lock:
            run.is_done = True
            if run.error is not None:
                self._note_failure(run)
            self._meter.on_done(run, run.released_by)
            for dependent in run.dependents:
                dependent.missing -= 1
                if not dependent.missing:
                    dependent.released_by = run.op.kind
                    ready.append(dependent)
            run.dependents = []  # or a step that is kept would keep all steps after it
        for dependent in ready:
            self._release(dependent)
        if run.op.kind == "head":
            run.step.sampled.put(None)
        elif run.op.kind == "offload":
            self._moved.set()

    def _release(self, run: OpRun) -> None:
        if run.op.lane != "cpu":
            self.lanes[run.op.lane].ring()
            return
        with self._lock:
            run.start_ns = self._clock.now_ns()
            self._meter.on_submit(run)
        self.attention.submit(run)

    def _remember_tickets(self, step: StepRun) -> None:
        """The results of cohorts that later steps wait for."""
        for cohort, run in step.cohorts_that_leave():
            self._tickets[cohort] = run
        for cohort in [c for c in self._tickets if c not in self._carry.cohorts]:
            del self._tickets[cohort]

    def _remember_copies(self, step: StepRun, failed: Mapping[int, str]) -> None:
        """Prompts on their way to the host. Of those that failed nobody will hear again, and their
        blocks are about to be given to others: that copy must end now.
        """
        offload = step.last("offload")
        if offload is None:
            return
        self._last_offload = offload
        chunks = [c for c in step.plan.batches[0].chunks if c.tier is Tier.CPU]
        if any(chunk.sequence in failed for chunk in chunks):
            self._wait_for(offload)
        arriving = [c.sequence for c in chunks if c.is_last and c.sequence not in failed]
        if arriving:
            self._copies.append((offload, tuple(arriving)))

    def _wait_for(self, run: OpRun) -> None:
        """Until an op has ended: only after failures, so that waiting need not cost the others."""
        while not run.is_done:
            self._moved.wait(_POLL_NS / NS_PER_S)

    # -- results and failures ------------------------------------------------------------------

    def _result(self, step: StepRun, end_ns: int) -> StepResult:
        sampled = step.work.sampled()
        failed = dict(sampled.failed) | self._failed(step)
        tokens = tuple(item for item in sampled.tokens if item[0] not in failed)
        finished = sampled.finished - failed.keys()
        return StepResult(step.start_ns, end_ns, tokens, finished, tuple(failed.items()))

    def _failed(self, step: StepRun) -> dict[int, str]:
        """Sequences that failed, with the reason; their cohorts are dropped, as the scheduler
        drops them."""
        if not (step.errors or self._late_failures):
            return {}
        with self._lock:
            failed = {row: why for row, why in self._late_failures.items() if row in self._alive}
            self._late_failures.clear()
        for op, _ in step.errors:
            failed |= dict.fromkeys(rows_of(step.plan, op), _reason(step.errors[0][1]))
        broken = [c for c, (_, rows) in self._carry.cohorts.items() if failed.keys() & set(rows)]
        for cohort in broken:
            self._wait_for(self._tickets.pop(cohort))  # it may still write into the rows' blocks
            self._backend.drop(cohort)
        left = {c: wait for c, wait in self._carry.cohorts.items() if c not in broken}
        self._carry = Carry(left)
        return failed

    def _note_failure(self, run: OpRun) -> None:
        """Deferred work may fail when its step is long over. What fails in a step after the first
        error comes of that.
        """
        assert run.error is not None
        step, head = run.step, run.step.runs[-1]
        if head.is_done and run is not head:
            first = step.errors[0][1] if step.errors else run.error
            self._late_failures |= dict.fromkeys(rows_of(step.plan, run.op), _reason(first))
        else:
            step.errors.append((run.op, run.error))

    # -- what the engine asks between steps ----------------------------------------------------

    def joinable(self, cohorts: tuple[int, ...], now_ns: int) -> frozenset[int]:  # noqa: ARG002
        """Those of `cohorts` whose CPU results have arrived."""
        return frozenset(cohort for cohort in cohorts if self._tickets[cohort].is_done)

    def copied(self, now_ns: int) -> tuple[int, ...]:  # noqa: ARG002
        """Sequences whose prompt KV has reached the host; each is reported once."""
        if not self._copies:
            return ()
        done = [copy for copy in self._copies if copy[0].is_done]
        self._copies = [copy for copy in self._copies if copy not in done]
        return tuple(sequence for _, sequences in done for sequence in sequences)

    def next_completion_ns(self) -> int | None:
        """When to look again for prompts on their way to the host; None without any."""
        return self._clock.now_ns() + _POLL_NS if self._copies else None

    def idle_until(self, time_ns: int) -> None:
        """Sleep until `time_ns`, or until a copy has ended."""
        began = self._clock.now_ns()
        self._moved.clear()
        if not any(run.is_done for run, _ in self._copies):
            self._moved.wait(max(0, time_ns - began) / NS_PER_S)
        with self._lock:
            self._meter.on_no_work(self._clock.now_ns() - began)

    # -- meter ---------------------------------------------------------------------------------

    @property
    def busy_ns(self) -> tuple[int, ...]:
        """Busy time per lane until now, in the order of records.LANES."""
        return self._meter.busy_ns

    @property
    def overlap_ns(self) -> int:
        """Time until now in which the GPU lane worked and the CPU lane had work."""
        return self._meter.overlap_ns

    @property
    def idle_ns(self) -> tuple[int, ...]:
        """GPU idle time by reason, in the order of records.IDLE_REASONS."""
        return self._meter.idle_ns

    @property
    def timelines(self) -> tuple[StepTimeline, ...]:
        """Representative steps with all their ops."""
        return self._keeper.timelines()


def _reason(error: BaseException) -> str:
    """One line about why an op failed."""
    return " ".join(str(error).split()) or type(error).__name__
