"""Admission of prompts: first come first served, in chunks within the token budget of a step."""

from apexbench.engine.books import Books
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.base import Limits
from apexbench.engine.sequence import Sequence, Tier
from apexbench.engine.thresholds import Thresholds

# Steps that the oldest free CPU row may stand still before new prompts must wait: long enough for
# policies that leave the CPU idle in decode-only phases, short beside a request's life.
MAX_STANDSTILL_STEPS = 256


class Admission:
    """Gives prompts their blocks and their chunks.

    A CPU row that makes no progress may be waiting for GPU blocks which newer prompts keep
    taking. Then admission stops until it has moved: the GPU drains, and the row comes in or runs.
    """

    __slots__ = ("_books", "_max_on_host", "_oldest", "_prefers_host", "_standstill", "_thresholds")

    def __init__(self, books: Books, thresholds: Thresholds, *, prefers_host: bool) -> None:
        self._books = books
        self._thresholds = thresholds
        self._prefers_host = prefers_host
        self._oldest = (-1, -1)
        self._standstill = 0
        self._max_on_host: int | None = None

    def chunks(self, limits: Limits | None = None) -> tuple[PrefillChunk, ...]:
        """Chunks within the token budget: prompts in progress first, then new ones. `limits` are
        those of a policy that sets the pace.
        """
        self._watch_oldest()
        books = self._books
        if not (books.prefilling or books.waiting):
            return ()
        budget = self._thresholds.max_batched_tokens - len(books.gpu_rows)
        self._max_on_host = None
        if limits is not None:
            budget = min(budget, limits.max_prefill_tokens)
            self._max_on_host = limits.max_on_host
        chunks: list[PrefillChunk] = []
        for sequence in books.prefilling:
            if budget <= 0:
                break
            chunks.append(_chunk(sequence, budget))
            budget -= chunks[-1].new_tokens
        while budget > 0 and self._admits_one_more():
            chunks.append(_chunk(books.begin_prefill(), budget))
            budget -= chunks[-1].new_tokens
        return tuple(chunks)

    def _watch_oldest(self) -> None:
        free = self._books.cpu_rows.free
        oldest = (free[0].order, free[0].computed) if free else (-1, -1)
        self._standstill = self._standstill + 1 if oldest == self._oldest and free else 0
        self._oldest = oldest

    def _admits_one_more(self) -> bool:
        """Give the oldest waiting prompt its blocks, if it may have them."""
        books = self._books
        if not books.waiting or self._standstill > MAX_STANDSTILL_STEPS:
            return False
        if books.num_resident >= self._thresholds.max_running_rows:
            return False
        return self._place(books.waiting[0])

    def _place(self, sequence: Sequence) -> bool:
        """Blocks for a whole prompt: on the GPU while it fits; behind a prompt bound for the host
        all later ones go there too. An idle GPU may use its reserve, so nothing waits for ever.
        A policy that keeps KV on the host leaves the GPU only what the host could never hold.
        """
        books = self._books
        if self._prefers_host and books.memory.host_could_hold(sequence):
            return books.memory.admit(sequence, Tier.CPU, respects_watermark=True)
        is_idle = not books.gpu_rows and not books.prefilling
        only_cpu = any(other.tier is Tier.CPU for other in books.prefilling)
        admit = books.memory.admit
        if not only_cpu and admit(sequence, Tier.GPU, respects_watermark=not is_idle):
            return True
        if books.memory.cpu is None or (self._is_host_full() and not is_idle):
            return False
        return admit(sequence, Tier.CPU, respects_watermark=True)

    def _is_host_full(self) -> bool:
        """The policy wants no more sequences there."""
        most = self._max_on_host
        return most is not None and self._books.num_on_host >= most


def _chunk(sequence: Sequence, budget: int) -> PrefillChunk:
    left = sequence.target - sequence.computed
    new = min(left, budget)
    return PrefillChunk(sequence.id, new, sequence.computed, sequence.tier, new == left)
