"""Turns what happens in the engine into records; its memory is linear in requests, not in steps."""

import math

from apexbench.engine.books import Ended
from apexbench.engine.executors.base import Meter
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.stretches import StretchKeeper
from apexbench.records import (
    STRATEGIES,
    Checkpoint,
    Request,
    RequestRecord,
    RequestStatus,
    StepRecord,
    TokenGaps,
    never_served,
)

MAX_CHECKPOINTS = 512
GAP_BIN_WIDTH = math.log(1.005)  # inter-token gaps are binned 0.5 % wide


class _Life:
    """Times of one request in flight."""

    __slots__ = ("arrival_ns", "first_ns", "last_ns", "request", "start_ns")

    def __init__(self, request: Request, arrival_ns: int) -> None:
        self.request = request
        self.arrival_ns = arrival_ns
        self.start_ns: int | None = None
        self.first_ns: int | None = None
        self.last_ns = 0


class Recorder:
    """Collects request records, inter-token gaps and thinned-out running totals.

    With `keeps_steps` it also keeps stretches of consecutive steps.
    """

    def __init__(self, meter: Meter, *, keeps_steps: bool = False) -> None:
        self._meter = meter
        self._keeper = StretchKeeper() if keeps_steps else None
        self._lives: dict[int, _Life] = {}
        self._unstarted: dict[int, _Life] = {}
        self._records: list[RequestRecord] = []
        self._gaps: dict[int, int] = {}
        self._bins: dict[int, int] = {}
        self._strategy_steps = dict.fromkeys(STRATEGIES, 0)
        self._output_tokens = 0
        self._prompt_tokens = 0
        self._completed = 0
        self._cpu_completed = 0
        self._num_steps = 0
        self._stride = 1
        self._checkpoints: list[Checkpoint] = []

    @property
    def num_completed(self) -> int:
        """Requests served to the end."""
        return self._completed

    def on_arrival(self, request: Request, arrival_ns: int) -> None:
        """A request was handed to the scheduler."""
        life = _Life(request, arrival_ns)
        self._lives[request.id] = life
        self._unstarted[request.id] = life

    def on_step(
        self, plan: StepPlan, strategy: str, result: StepResult, scheduler: Scheduler
    ) -> None:
        """A step was run and committed; its ended sequences are still to come."""
        for batch in plan.batches:
            for chunk in batch.chunks:
                life = self._unstarted.pop(chunk.sequence, None)
                if life is not None:
                    life.start_ns = result.start_ns
        self._on_tokens(result)
        if self._keeper is not None:
            self._keeper.on_step(plan, result)
        self._strategy_steps[strategy] += 1
        self._num_steps += 1
        if self._num_steps % self._stride == 0:
            self.checkpoint(result.end_ns, scheduler)

    def on_end(self, ended: Ended, now_ns: int) -> None:
        """A sequence left the scheduler."""
        sequence = ended.sequence
        life = self._lives.pop(sequence.id)
        self._unstarted.pop(sequence.id, None)
        if ended.status is RequestStatus.COMPLETED:
            self._completed += 1
            self._cpu_completed += sequence.cpu_decode_tokens > 0
        self._records.append(
            RequestRecord(
                id=sequence.id,
                status=ended.status,
                prompt_tokens=sequence.prompt_tokens,
                output_tokens=sequence.generated,
                arrival_ns=life.arrival_ns,
                start_ns=life.start_ns,
                first_token_ns=life.first_ns,
                end_ns=None if ended.status is RequestStatus.UNFINISHED else now_ns,
                cpu_decode_tokens=sequence.cpu_decode_tokens,
                preemptions=sequence.preemptions,
                swaps=sequence.swaps,
                reason=ended.reason,
            )
        )

    def on_never_sent(self, request: Request) -> None:
        """The run ended before the request was due."""
        self._records.append(never_served(request))

    def checkpoint(self, time_ns: int, scheduler: Scheduler) -> None:
        """Note the running totals; when there are too many, every other one is dropped."""
        meter = self._meter
        self._checkpoints.append(
            Checkpoint(
                *(time_ns, self._output_tokens, self._prompt_tokens),
                *(self._completed, self._cpu_completed),
                *(len(scheduler.waiting), len(scheduler.gpu_rows), len(scheduler.cpu_rows)),
                meter.busy_ns,
                meter.overlap_ns,
                meter.idle_ns,
                tuple(self._strategy_steps.values()),
            )
        )
        if len(self._checkpoints) > MAX_CHECKPOINTS:
            del self._checkpoints[1::2]
            self._stride *= 2

    def records(self) -> tuple[RequestRecord, ...]:
        """All records, by request id."""
        return tuple(sorted(self._records, key=lambda record: record.id))

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Totals in time order; of several at one instant the last stands."""
        by_time = {checkpoint.time_ns: checkpoint for checkpoint in self._checkpoints}
        return tuple(by_time.values())

    def stretches(self) -> tuple[tuple[StepRecord, ...], ...]:
        """Runs of consecutive steps in time order; none unless they were asked for."""
        return () if self._keeper is None else self._keeper.stretches()

    def token_gaps(self) -> TokenGaps:
        """The histogram of inter-token gaps; a bin is reported by its geometric middle."""
        bins = sorted(self._bins.items())
        middles = tuple(round(math.exp((index + 0.5) * GAP_BIN_WIDTH)) for index, _ in bins)
        return TokenGaps(middles, tuple(count for _, count in bins))

    def _on_tokens(self, result: StepResult) -> None:
        now, lives, gaps = result.end_ns, self._lives, self._gaps
        output_tokens = 0
        for row, count in result.tokens:
            life = lives[row]
            output_tokens += count
            if life.first_ns is None:
                life.first_ns = now
                self._prompt_tokens += life.request.prompt_tokens
            else:
                gap = now - life.last_ns
                gaps[gap] = gaps.get(gap, 0) + 1
            life.last_ns = now
        self._output_tokens += output_tokens
        for gap, number in gaps.items():
            index = int(math.log(gap) / GAP_BIN_WIDTH) if gap > 0 else 0
            self._bins[index] = self._bins.get(index, 0) + number
        gaps.clear()
