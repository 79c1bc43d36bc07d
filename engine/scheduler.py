"""The scheduler: bookkeeping of sequences, blocks and cohorts. No tensors, no clock, no I/O.

Each step: make room for the next token of every GPU row (the newest give way), swap the oldest
CPU row in where it fits, admit prompts first come first served, then ask the policy what the CPU
does. A step never mixes swap-in and swap-out. Whatever is decided, the oldest sequence advances.
"""

from collections import deque
from collections.abc import Iterable

from apexbench.engine.admission import Admission
from apexbench.engine.books import Books, Ended
from apexbench.engine.cohorts import CohortBook
from apexbench.engine.placement import Placement
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.base import Limits, Pacing, Policy
from apexbench.engine.policies.laws import ChoiceLaws, Law
from apexbench.engine.pressure import reserve_gpu_rows, swap_in
from apexbench.engine.rows import CpuRows, GpuRows
from apexbench.engine.sequence import Phase, Sequence, Tier
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.engine.traffic import TrafficWatch
from apexbench.errors import ApexbenchError
from apexbench.records import Request, RequestStatus


class Scheduler:
    """Owns every sequence in flight. Policies see rows, never queues.

    `defers` and `keeps_kv_on_host` are what the policy's entry says (policies.entry).
    """

    def __init__(
        self,
        *,
        policy: Policy,
        memory: KvMemory,
        thresholds: Thresholds,
        num_layers: int,
        defers: bool = True,
        keeps_kv_on_host: bool = False,
    ) -> None:
        self.memory = memory
        self.cohorts = CohortBook()
        self.thresholds = thresholds
        self._books = Books(memory)
        self._traffic = TrafficWatch(self._books)
        self._pacing = policy if isinstance(policy, Pacing) else None
        self._admission = Admission(self._books, thresholds, prefers_host=keeps_kv_on_host)
        self._laws = ChoiceLaws(
            policy.name, num_layers=num_layers, thresholds=thresholds, defers=defers
        )
        self._placement = Placement(self._books, self.cohorts, policy, self._laws, thresholds)
        self._swaps_in = not keeps_kv_on_host
        self._num_layers = num_layers
        self._num_steps = 0
        self._is_running = False  # between schedule and commit
        self._cancelled: list[Sequence] = []  # they end at their next token boundary

    # -- what others may look at ---------------------------------------------------------------

    @property
    def sequences(self) -> dict[int, Sequence]:
        """Every sequence in flight, by id."""
        return self._books.sequences

    @property
    def waiting(self) -> deque[Sequence]:
        """Sequences without blocks, oldest first."""
        return self._books.waiting

    @property
    def prefilling(self) -> list[Sequence]:
        """Sequences whose prompt is being computed."""
        return self._books.prefilling

    @property
    def gpu_rows(self) -> GpuRows:
        """Sequences that decode on the GPU."""
        return self._books.gpu_rows

    @property
    def cpu_rows(self) -> CpuRows:
        """Sequences that decode on the CPU, or whose KV is on its way there."""
        return self._books.cpu_rows

    @property
    def quarantined(self) -> tuple[Sequence, ...]:
        """Ended sequences whose blocks a copy still writes."""
        return self._books.quarantined

    @property
    def num_in_flight(self) -> int:
        """Sequences not yet ended."""
        return len(self._books.sequences)

    @property
    def needs_tickets(self) -> bool:
        """True when plans depend on which cohorts have their results (join mode `poll`)."""
        return self.thresholds.join_mode == "poll"

    # -- requests coming and going -------------------------------------------------------------

    def add(self, request: Request, arrival_ns: int = 0) -> None:
        """Queue a request, or end it at once when its prompt can never fit."""
        self._books.add(request, arrival_ns)

    def cancel(self, request_id: int) -> None:
        """Stop a request: now, or at its token boundary when a step, cohort or copy holds it."""
        sequence = self._books.sequences.get(request_id)
        if sequence is None or sequence.is_cancelled:
            return
        sequence.is_cancelled = True
        self._cancelled.append(sequence)
        if not self._is_running:
            self._end_cancelled()

    @property
    def has_ended(self) -> bool:
        """True when `take_ended` has something to tell."""
        return bool(self._books.ended)

    def take_ended(self) -> list[Ended]:
        """Sequences that ended since the last call, in order."""
        ended, self._books.ended = self._books.ended, []
        return ended

    # -- one step ------------------------------------------------------------------------------

    def schedule(
        self,
        copied: Iterable[int] = (),
        joinable: frozenset[int] = frozenset(),
        now_ns: int = 0,
    ) -> StepPlan | None:
        """The next step, or None when there is nothing to run now.

        `copied` are sequences whose prompt KV has reached the host, `joinable` the cohorts whose
        CPU results have arrived (used in join mode `poll`); `now_ns` is told to policies that set
        the pace.
        """
        for sequence_id in copied:
            self._books.on_copied(sequence_id)
        if self._cancelled:
            self._end_cancelled()
        arrived = joinable if self.needs_tickets else None
        plan, has_changed = None, True
        while plan is None and has_changed:  # who lost the last blocks may come back at once
            before = self._books.num_recomputed
            plan = self._next_plan(arrived, now_ns)
            has_changed = self._books.num_recomputed > before
        if plan is not None:
            self._num_steps += 1
            self._is_running = True
        return plan

    def _next_plan(self, joinable: frozenset[int] | None, now_ns: int) -> StepPlan | None:
        books = self._books
        moved_out = reserve_gpu_rows(books)
        moved_in = 0
        if moved_out is None and self._swaps_in and books.cpu_rows.free:
            moved_in = swap_in(books, self.thresholds.swap_in_fraction)
        chunks = self._admission.chunks(self._limits(now_ns))
        return self._placement.plan(self._num_steps, chunks, joinable, (moved_in, moved_out or 0))

    def _limits(self, now_ns: int) -> Limits | None:
        """What a policy that sets the pace allows in this step; None for all others."""
        if self._pacing is None:
            return None
        books = self._books
        try:
            limits = self._pacing.limits(self._traffic.look(now_ns))
        except ApexbenchError:
            raise
        except Exception as error:
            raise self._laws.raised(self._num_steps, error, Law.PACES) from error
        is_idle = bool(books.waiting or books.prefilling) and not (books.gpu_rows or books.cpu_rows)
        self._laws.check_limits(self._num_steps, limits, is_idle=is_idle)
        return limits

    def commit(self, plan: StepPlan, result: StepResult) -> None:
        """Take the step's outcome into the books; ended sequences wait in `take_ended`."""
        books = self._books
        self._is_running = False
        books.settle()
        books.gpu_rows.advance()
        for batch in plan.batches:
            for chunk in batch.chunks:
                books.sequences[chunk.sequence].computed += chunk.new_tokens
        for row in self.cohorts.advance(plan.cohorts, self._num_layers):
            books.cpu_rows.release(row)
        self._take_tokens(result)
        for sequence_id in sorted(result.finished):
            if self._pacing is not None:
                self._traffic.on_finished(books.sequences[sequence_id], result.end_ns)
            books.end(books.sequences[sequence_id], RequestStatus.COMPLETED, None)
        for sequence_id, reason in result.failed:
            self._fail(books.sequences[sequence_id], reason)
        if self._cancelled:
            self._end_cancelled()

    def _take_tokens(self, result: StepResult) -> None:
        books = self._books
        sequences, gpu_rows, cpu_rows = books.sequences, books.gpu_rows, books.cpu_rows
        prefill, gpu = Phase.PREFILL, Tier.GPU
        for sequence_id, count in result.tokens:
            sequence = sequences[sequence_id]
            if not sequence.generated:
                sequence.first_token_ns = result.end_ns
            sequence.generated += count
            if sequence.phase is prefill:
                books.begin_decoding(sequence)
                continue
            sequence.computed += count
            if sequence.tier is gpu:
                gpu_rows.kv_tokens += count
                if count != 1:  # filed for one token per step
                    gpu_rows.file(sequence)
            else:
                cpu_rows.free_kv_tokens += count
                sequence.cpu_decode_tokens += count

    # -- endings -------------------------------------------------------------------------------

    def _end_cancelled(self) -> None:
        """Of the cancelled, those at a token boundary may go now."""
        later = []
        for sequence in self._cancelled:
            if sequence.phase is Phase.ENDED:
                continue
            if sequence.is_at_token_boundary:
                self._books.end(sequence, RequestStatus.CANCELLED, "cancelled")
            else:
                later.append(sequence)
        self._cancelled = later

    def _fail(self, sequence: Sequence, reason: str) -> None:
        """The executor gave a row up: its whole cohort drops the token it was computing."""
        if sequence.cohort is not None:
            for row in self.cohorts.dissolve(sequence.cohort):
                self._books.cpu_rows.release(row)
        self._books.end(sequence, RequestStatus.FAILED, reason)
