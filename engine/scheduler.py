"""The scheduler: bookkeeping of sequences, blocks and cohorts. No tensors, no clock, no I/O.

Each step: make room for the next token of every GPU row (preempting the newest), swap the oldest
CPU row in where it fits, admit prompts first come first served, then ask the policy what the CPU
does. A step never mixes swap-in and swap-out. Whatever is decided, the oldest sequence advances.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from apexbench.engine.cohorts import CohortBook
from apexbench.engine.plan import CohortStep, PrefillChunk, StepPlan, StepResult, SubBatch
from apexbench.engine.policies.base import Candidates, Choice, Policy
from apexbench.engine.sequence import Phase, Sequence, Tier
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.errors import InvariantError
from apexbench.records import Request, RequestStatus

_BY_ORDER = attrgetter("order")


class Ended(NamedTuple):
    """A sequence that left the scheduler, and why."""

    sequence: Sequence
    status: RequestStatus
    reason: str | None


class Scheduler:
    """Owns every sequence in flight. Policies see rows, never queues."""

    def __init__(
        self, *, policy: Policy, memory: KvMemory, thresholds: Thresholds, num_layers: int
    ) -> None:
        self.memory = memory
        self.cohorts = CohortBook()
        self.waiting: deque[Sequence] = deque()
        self.prefilling: list[Sequence] = []
        self.gpu_rows: list[Sequence] = []
        self.cpu_rows: list[Sequence] = []  # oldest first
        self.sequences: dict[int, Sequence] = {}
        self._policy = policy
        self._thresholds = thresholds
        self._num_layers = num_layers
        self._num_steps = 0
        self._num_added = 0
        self._ended: list[Ended] = []
        self._moving: list[Sequence] = []  # to the host, in the step at hand
        self._limbo: dict[int, Sequence] = {}  # ended, but a copy still writes its blocks

    # -- requests coming and going -------------------------------------------------------------

    def add(self, request: Request) -> None:
        """Queue a request, or end it at once when its prompt can never fit."""
        sequence = Sequence(request, self._num_added)
        self._num_added += 1
        self.sequences[sequence.id] = sequence
        limit = self.memory.max_sequence_tokens
        if request.prompt_tokens + 1 > limit:
            reason = f"prompt does not fit: the largest KV pool holds {limit} tokens"
            self._end(sequence, RequestStatus.REJECTED, reason)
        else:
            self.waiting.append(sequence)

    def cancel(self, request_id: int) -> None:
        """Stop a request. Blocks that a cohort or a copy still uses are freed when it is done."""
        sequence = self.sequences.get(request_id)
        if sequence is None or sequence.is_cancelled:
            return
        sequence.is_cancelled = True
        if sequence.is_at_token_boundary:
            self._end(sequence, RequestStatus.CANCELLED, "cancelled")

    def take_ended(self) -> list[Ended]:
        """Sequences that ended since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    @property
    def num_in_flight(self) -> int:
        """Sequences not yet ended."""
        return len(self.sequences)

    # -- one step ------------------------------------------------------------------------------

    @property
    def needs_tickets(self) -> bool:
        """True when plans depend on which cohorts have their results (join mode `poll`)."""
        return self._thresholds.join_mode == "poll"

    def schedule(
        self, copied: Iterable[int] = (), joinable: frozenset[int] = frozenset()
    ) -> StepPlan | None:
        """The next step, or None when there is nothing to run now.

        `copied` are sequences whose prompt KV has reached the host, `joinable` the cohorts whose
        CPU results have arrived (used in join mode `poll`).
        """
        for sequence_id in copied:
            self._on_copied(sequence_id)
        swapped_out = self._reserve_gpu_rows()
        swapped_in = 0 if swapped_out is not None else self._swap_in()
        chunks = self._prompt_chunks()
        plan = self._plan(chunks, joinable, swapped_in, swapped_out or 0)
        if plan is not None:
            self._num_steps += 1
        return plan

    def commit(self, plan: StepPlan, result: StepResult) -> None:
        """Take the step's outcome into the books; ended sequences wait in `take_ended`."""
        self._settle(plan)
        self.cohorts.advance(plan.cohorts, self._num_layers)
        sequences = self.sequences
        for sequence_id, count in result.tokens:
            sequence = sequences[sequence_id]
            if sequence.phase is Phase.PREFILL:
                self._begin_decoding(sequence)
            else:
                sequence.computed += count
                if sequence.tier is Tier.CPU:
                    sequence.cpu_decode_tokens += count
            sequence.generated += count
        for sequence_id in sorted(result.finished):
            self._end(sequences[sequence_id], RequestStatus.COMPLETED, None)
        for sequence_id, reason in result.failed:
            self._fail(sequences[sequence_id], reason)
        self._end_cancelled(plan)

    def _settle(self, plan: StepPlan) -> None:
        """Copies between tiers are done and prompt chunks are computed."""
        self.memory.settle()
        for moved in self._moving:
            moved.is_copying = False
        self._moving.clear()
        for batch in plan.batches:
            for chunk in batch.chunks:
                self.sequences[chunk.sequence].computed += chunk.new_tokens

    # -- GPU memory ----------------------------------------------------------------------------

    def _reserve_gpu_rows(self) -> int | None:
        """A block for the next token of every GPU row, oldest first. Returns the KV tokens moved
        to the host to make room, or None when nobody had to leave.
        """
        memory = self.memory
        moved: int | None = None
        for sequence in list(self.gpu_rows):
            while sequence.tier is Tier.GPU and sequence.blocks and not memory.grow(sequence):
                moved = (moved or 0) + self._preempt(self._newest_on_gpu())
        return moved

    def _newest_on_gpu(self) -> Sequence:
        prompts = [s for s in self.prefilling if s.tier is Tier.GPU]
        return max([*self.gpu_rows, *prompts], key=_BY_ORDER)

    def _preempt(self, victim: Sequence) -> int:
        """Move a GPU sequence to the host, else recompute it later; returns KV tokens moved."""
        is_decoding = victim.phase is Phase.DECODE
        if is_decoding and self.memory.cpu is not None and self.memory.move(victim, Tier.CPU):
            self.gpu_rows.remove(victim)
            insort(self.cpu_rows, victim, key=_BY_ORDER)
            victim.is_copying = True
            self._moving.append(victim)
            return victim.computed
        self._recompute(victim)
        return 0

    def _recompute(self, victim: Sequence) -> None:
        self._leave_queues(victim)
        self.memory.release(victim)
        victim.reset_for_recompute()
        if victim.target + 1 > self.memory.max_sequence_tokens:
            limit = self.memory.max_sequence_tokens
            reason = f"grew to {victim.target} tokens: the largest KV pool holds {limit}"
            self._end(victim, RequestStatus.FAILED, reason)
            return
        waiting = self.waiting
        position = 0
        while position < len(waiting) and waiting[position].order < victim.order:
            position += 1
        waiting.insert(position, victim)

    def _swap_in(self) -> int:
        """Bring the oldest CPU rows at a token boundary to the GPU; returns KV tokens moved."""
        gpu = self.memory.gpu
        limit = int(self._thresholds.swap_in_fraction * gpu.num_blocks)
        moved = 0
        while True:
            row = next((row for row in self.cpu_rows if row.is_at_token_boundary), None)
            if row is None or gpu.num_used + gpu.blocks_for(row.computed + 1) > limit:
                return moved
            if not self.memory.move(row, Tier.GPU):
                return moved
            self.cpu_rows.remove(row)
            self.gpu_rows.append(row)
            moved += row.computed

    # -- prompts -------------------------------------------------------------------------------

    def _prompt_chunks(self) -> tuple[PrefillChunk, ...]:
        """Chunks within the token budget: prompts in progress first, then new ones."""
        budget = self._thresholds.max_batched_tokens - len(self.gpu_rows)
        chunks = []
        for sequence in self.prefilling:
            if budget <= 0:
                break
            chunks.append(_chunk(sequence, budget))
            budget -= chunks[-1].new_tokens
        only_cpu = False
        while budget > 0 and self.waiting and self._has_room_for_one_more():
            sequence = self.waiting[0]
            if not self._place(sequence, only_cpu):
                break
            only_cpu = sequence.tier is Tier.CPU
            self.waiting.popleft()
            self.prefilling.append(sequence)
            sequence.phase = Phase.PREFILL
            sequence.is_started = True
            chunks.append(_chunk(sequence, budget))
            budget -= chunks[-1].new_tokens
        return tuple(chunks)

    def _has_room_for_one_more(self) -> bool:
        resident = len(self.gpu_rows) + len(self.cpu_rows) + len(self.prefilling)
        return resident < self._thresholds.max_running_rows

    def _place(self, sequence: Sequence, only_cpu: bool) -> bool:
        """Blocks for a whole prompt: on the GPU while it fits, after the first one that does not
        all later ones on the host. An idle GPU may use its reserve, so nothing waits for ever.
        """
        is_idle = not self.gpu_rows and not self.prefilling
        if not only_cpu and self.memory.admit(sequence, Tier.GPU, respects_watermark=not is_idle):
            return True
        if self.memory.cpu is None:
            return False
        return self.memory.admit(sequence, Tier.CPU, respects_watermark=True)

    def _begin_decoding(self, sequence: Sequence) -> None:
        sequence.phase = Phase.DECODE
        self.prefilling.remove(sequence)
        if sequence.tier is Tier.GPU:
            self.gpu_rows.append(sequence)
        else:
            sequence.is_copying = True  # its last layers are still on their way to the host
            insort(self.cpu_rows, sequence, key=_BY_ORDER)

    def _on_copied(self, sequence_id: int) -> None:
        ended = self._limbo.pop(sequence_id, None)
        if ended is not None:
            self.memory.release(ended)
            return
        sequence = self.sequences[sequence_id]
        sequence.is_copying = False
        if sequence.is_cancelled:
            self._end(sequence, RequestStatus.CANCELLED, "cancelled")

    # -- the CPU's part ------------------------------------------------------------------------

    def _plan(
        self,
        chunks: tuple[PrefillChunk, ...],
        joinable: frozenset[int],
        swapped_in: int,
        swapped_out: int,
    ) -> StepPlan | None:
        free = tuple([row for row in self.cpu_rows if row.is_at_token_boundary])
        gpu_kv_tokens = sum([row.computed for row in self.gpu_rows]) + len(self.gpu_rows)
        work = Candidates(
            chunks,
            len(self.gpu_rows),
            gpu_kv_tokens,
            free,
            len(self.cohorts),
            self.cohorts.num_rows,
            self.cohorts.steps_since_entry,
        )
        choice = self._policy.choose(work) if free or chunks or len(self.cohorts) else None
        choice = self._kept_alive(work, choice or Choice())
        self._check(choice, free)
        rows_a, rows_b, entering = self._reserve_cpu_rows(choice, free)
        cohorts = self._cohort_steps(choice, joinable)
        if entering:
            cohorts += (self.cohorts.enter(entering),)
        if choice.drops:
            chunks = tuple(chunk for chunk in chunks if chunk.sequence not in choice.drops)
        first = SubBatch(
            chunks, tuple([row.id for row in self.gpu_rows]), gpu_kv_tokens, *_ids(rows_a)
        )
        batches = (first, SubBatch((), (), 0, *_ids(rows_b))) if rows_b else (first,)
        if not (chunks or self.gpu_rows or rows_a or rows_b or cohorts or swapped_out):
            return None
        return StepPlan(self._num_steps, batches, cohorts, swapped_in, swapped_out)

    def _kept_alive(self, work: Candidates, choice: Choice) -> Choice:
        """When a step would otherwise be empty, the CPU rows run: nothing waits for ever."""
        has_cpu_work = choice.in_layer_a or choice.in_layer_b or choice.enter
        if has_cpu_work or work.num_gpu_rows or len(work.chunks) > len(choice.drops):
            return choice
        if work.num_cohorts and not choice.freezes_cohorts:
            return choice
        if choice.drops:
            return Choice(promotes_cohorts=choice.promotes_cohorts)
        rows = tuple(row.id for row in work.cpu_rows[: self._thresholds.max_running_rows])
        return Choice(in_layer_a=rows, promotes_cohorts=work.num_cohorts > 0)

    def _check(self, choice: Choice, free: tuple[Sequence, ...]) -> None:
        chosen = (*choice.in_layer_a, *choice.in_layer_b, *choice.enter)
        if not chosen:
            return
        if len(set(chosen)) != len(chosen):
            raise InvariantError(f"policy {self._policy.name} placed a row twice in one step")
        if not {row.id for row in free}.issuperset(chosen):
            raise InvariantError(f"policy {self._policy.name} placed a row that is not free")

    def _reserve_cpu_rows(
        self, choice: Choice, free: tuple[Sequence, ...]
    ) -> tuple[tuple[Sequence, ...], tuple[Sequence, ...], tuple[Sequence, ...]]:
        """The chosen rows that got their block, oldest first; the newest free row gives way."""
        if not (choice.in_layer_a or choice.in_layer_b or choice.enter):
            return (), (), ()
        for row_id in sorted((*choice.in_layer_a, *choice.in_layer_b, *choice.enter)):
            row = self.sequences.get(row_id)
            while row is not None and row.tier is Tier.CPU and not self.memory.grow(row):
                self._recompute(next(r for r in reversed(self.cpu_rows) if r.is_at_token_boundary))
        by_id = {row.id: row for row in free if row.blocks}
        return (
            tuple([by_id[i] for i in choice.in_layer_a if i in by_id]),
            tuple([by_id[i] for i in choice.in_layer_b if i in by_id]),
            tuple([by_id[i] for i in choice.enter if i in by_id]),
        )

    def _cohort_steps(self, choice: Choice, joinable: frozenset[int]) -> tuple[CohortStep, ...]:
        if not len(self.cohorts):
            return ()
        limits = self._thresholds
        if choice.freezes_cohorts and self.cohorts.freeze(limits.max_frozen_steps):
            return ()
        arrived = joinable if self.needs_tickets else None
        return tuple(self.cohorts.steps(arrived, choice.promotes_cohorts, limits.max_missed_polls))

    # -- endings -------------------------------------------------------------------------------

    def _end_cancelled(self, plan: StepPlan) -> None:
        """Rows whose last cohort has just sampled may go now."""
        for step in plan.cohorts:
            if not step.samples(self._num_layers):
                continue
            for row_id in step.rows:
                row = self.sequences.get(row_id)
                if row is not None and row.is_cancelled:
                    self._end(row, RequestStatus.CANCELLED, "cancelled")

    def _fail(self, sequence: Sequence, reason: str) -> None:
        """The executor gave a row up: its whole cohort drops the token it was computing."""
        if sequence.cohort is not None:
            self.cohorts.dissolve(sequence.cohort)
        self._end(sequence, RequestStatus.FAILED, reason)

    def _end(self, sequence: Sequence, status: RequestStatus, reason: str | None) -> None:
        self._leave_queues(sequence)
        if sequence.is_copying:
            self._limbo[sequence.id] = sequence
        elif sequence.blocks:
            self.memory.release(sequence)
        sequence.phase = Phase.ENDED
        del self.sequences[sequence.id]
        self._ended.append(Ended(sequence, status, reason))

    def _leave_queues(self, sequence: Sequence) -> None:
        if sequence.phase is Phase.PREFILL:
            self.prefilling.remove(sequence)
        elif sequence.phase is Phase.DECODE:
            (self.gpu_rows if sequence.tier is Tier.GPU else self.cpu_rows).remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)


def _chunk(sequence: Sequence, budget: int) -> PrefillChunk:
    left = sequence.target - sequence.computed
    new = min(left, budget)
    return PrefillChunk(sequence.id, new, sequence.computed, sequence.tier, new == left)


def _ids(rows: tuple[Sequence, ...]) -> tuple[tuple[int, ...], int]:
    return tuple([row.id for row in rows]), sum([row.computed + 1 for row in rows])
