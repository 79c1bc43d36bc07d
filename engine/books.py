"""The scheduler's books: every sequence in flight, its queue and its blocks. Decides nothing.

Queues and blocks change together here and nowhere else, so that they cannot disagree.
"""

from collections import deque
from typing import NamedTuple

from apexbench.engine.rows import CpuRows, GpuRows
from apexbench.engine.sequence import Phase, Sequence, Tier
from apexbench.engine.tiers import KvMemory
from apexbench.errors import InvariantError
from apexbench.records import Request, RequestStatus


class Ended(NamedTuple):
    """A sequence that left the scheduler, and why."""

    sequence: Sequence
    status: RequestStatus
    reason: str | None


class Books:
    """Queues by phase and tier. A sequence in flight is in exactly one of them."""

    __slots__ = (
        "_limbo",
        "_moving",
        "_num_added",
        "cpu_rows",
        "ended",
        "gpu_rows",
        "memory",
        "num_recomputed",
        "prefilling",
        "sequences",
        "waiting",
    )

    def __init__(self, memory: KvMemory) -> None:
        self.memory = memory
        self.waiting: deque[Sequence] = deque()  # oldest first
        self.prefilling: list[Sequence] = []
        self.gpu_rows = GpuRows()
        self.cpu_rows = CpuRows()
        self.sequences: dict[int, Sequence] = {}
        self.ended: list[Ended] = []
        self.num_recomputed = 0
        self._num_added = 0
        self._moving: list[Sequence] = []  # to the host, in the step at hand
        self._limbo: dict[int, Sequence] = {}  # ended, but a copy still writes their blocks

    @property
    def num_resident(self) -> int:
        """Sequences that own blocks."""
        return len(self.gpu_rows) + len(self.cpu_rows) + len(self.prefilling)

    @property
    def quarantined(self) -> tuple[Sequence, ...]:
        """Ended sequences whose blocks a copy still writes."""
        return tuple(self._limbo.values())

    @property
    def num_on_host(self) -> int:
        """Sequences whose KV is on the host or on its way there."""
        on_the_way = [other for other in self.prefilling if other.tier is Tier.CPU]
        return len(self.cpu_rows) + len(on_the_way)

    def add(self, request: Request, arrival_ns: int = 0) -> None:
        """Queue a request, or end it at once when its prompt can never fit."""
        if request.id in self.sequences:
            raise InvariantError(f"request {request.id} was added twice")
        sequence = Sequence(request, self._num_added, arrival_ns)
        self._num_added += 1
        self.sequences[sequence.id] = sequence
        self.waiting.append(sequence)
        limit = self.memory.max_sequence_tokens
        if request.prompt_tokens + 1 > limit:
            reason = (
                f"a prompt of {request.prompt_tokens} tokens does not fit: the largest KV pool "
                f"holds {limit}"
            )
            self.end(sequence, RequestStatus.REJECTED, reason)

    def begin_prefill(self) -> Sequence:
        """The oldest waiting sequence has got its blocks."""
        sequence = self.waiting.popleft()
        sequence.phase = Phase.PREFILL
        self.prefilling.append(sequence)
        return sequence

    def begin_decoding(self, sequence: Sequence) -> None:
        """Its prompt is computed. On the CPU tier the last layers are still on their way."""
        sequence.phase = Phase.DECODE
        self.prefilling.remove(sequence)
        if sequence.tier is Tier.GPU:
            self.gpu_rows.add(sequence)
        else:
            sequence.is_copying = True
            self.cpu_rows.add(sequence)

    def on_copied(self, sequence_id: int) -> None:
        """The prompt's KV has reached the host: the row is free, or its quarantine over."""
        ended = self._limbo.pop(sequence_id, None)
        if ended is not None:
            self.memory.release(ended)
            return
        sequence = self.sequences[sequence_id]
        sequence.is_copying = False
        self.cpu_rows.release(sequence)

    def move_to_host(self, row: Sequence) -> bool:
        """Swap a GPU row out; False when there is no host pool or it is full."""
        if self.memory.cpu is None or not self.memory.move(row, Tier.CPU):
            return False
        self.gpu_rows.remove(row)
        self.cpu_rows.add(row)
        row.is_copying = True
        self._moving.append(row)
        return True

    def move_to_gpu(self, row: Sequence) -> bool:
        """Swap a free CPU row in; False when it does not fit."""
        if not self.memory.move(row, Tier.GPU):
            return False
        self.cpu_rows.remove(row)
        self.gpu_rows.add(row)
        return True

    def settle(self) -> None:
        """The step is over: rows that were swapped have arrived."""
        self.memory.settle()
        for row in self._moving:
            row.is_copying = False
            self.cpu_rows.release(row)
        self._moving.clear()

    def recompute(self, victim: Sequence) -> None:
        """Preempt a sequence for good: it waits, in its old place, to be prefilled again.

        It fails when it has outgrown every pool: no later moment could serve it.
        """
        self._leave_queue(victim)
        self.memory.release(victim)
        victim.reset_for_recompute()
        self._wait_again(victim)
        self.num_recomputed += 1
        limit = self.memory.max_sequence_tokens
        if victim.target + 1 > limit:
            reason = f"grew to {victim.target} tokens: the largest KV pool holds {limit}"
            self.end(victim, RequestStatus.FAILED, reason)

    def end(self, sequence: Sequence, status: RequestStatus, reason: str | None) -> None:
        """A sequence leaves. Blocks that a copy still writes are quarantined until it is done."""
        self._leave_queue(sequence)
        if sequence.is_copying:
            self._limbo[sequence.id] = sequence
        elif sequence.blocks:
            self.memory.release(sequence)
        sequence.phase = Phase.ENDED
        del self.sequences[sequence.id]
        self.ended.append(Ended(sequence, status, reason))

    def _wait_again(self, victim: Sequence) -> None:
        """Victims are older than whoever was never admitted, so their place is near the front."""
        position = 0
        while position < len(self.waiting) and self.waiting[position].order < victim.order:
            position += 1
        self.waiting.insert(position, victim)

    def _leave_queue(self, sequence: Sequence) -> None:
        if sequence.phase is Phase.PREFILL:
            self.prefilling.remove(sequence)
        elif sequence.phase is Phase.DECODE and sequence.tier is Tier.GPU:
            self.gpu_rows.remove(sequence)
        elif sequence.phase is Phase.DECODE:
            self.cpu_rows.remove(sequence)
        elif self.waiting[-1] is sequence:  # just added and rejected
            self.waiting.pop()
        else:
            self.waiting.remove(sequence)
