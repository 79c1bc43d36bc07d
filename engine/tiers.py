"""KV memory of both tiers: who owns which blocks, and moving a whole sequence between tiers."""

from dataclasses import dataclass

from apexbench.engine.blocks import BlockPool
from apexbench.engine.plan import KvMove
from apexbench.engine.sequence import Sequence, Tier


@dataclass(frozen=True, slots=True)
class Pools:
    """KV tokens per tier and how they are cut into blocks. `cpu_tokens` 0 = no host tier."""

    gpu_tokens: int
    cpu_tokens: int
    gpu_block_tokens: int = 16
    cpu_block_tokens: int = 64


class KvMemory:
    """The GPU pool and, for hybrid policies, the host pool. A sequence lives in one of them."""

    __slots__ = ("_leaving", "_moves", "cpu", "gpu", "watermark_blocks")

    def __init__(self, gpu: BlockPool, cpu: BlockPool | None, watermark: float) -> None:
        self.gpu = gpu
        self.cpu = cpu
        self.watermark_blocks = int(watermark * gpu.num_blocks)
        self._leaving: list[list[int]] = []
        self._moves: list[KvMove] = []

    def pool(self, tier: Tier) -> BlockPool:
        """The pool of a tier; asking for a host pool that does not exist is a bug."""
        if tier is Tier.GPU:
            return self.gpu
        assert self.cpu is not None
        return self.cpu

    @property
    def max_sequence_tokens(self) -> int:
        """Tokens of the longest sequence that some tier can hold alone."""
        return max(self.gpu.num_tokens, self.cpu.num_tokens if self.cpu else 0)

    def host_could_hold(self, sequence: Sequence) -> bool:
        """Whether an empty host pool would hold everything to prefill and the next token."""
        return self.cpu is not None and sequence.target + 1 <= self.cpu.num_tokens

    @property
    def leaving(self) -> list[list[int]]:
        """Host blocks that a swap-in of the step at hand still reads: owned by nobody."""
        return self._leaving

    def grow(self, sequence: Sequence) -> bool:
        """Reserve the next token's block; False when the pool is out of blocks."""
        pool = self.pool(sequence.tier)
        missing = pool.blocks_for(sequence.computed + 1) - len(sequence.blocks)
        if missing > pool.num_free:
            return False
        if missing > 0:
            sequence.blocks += pool.allocate(missing)
            sequence.room += missing * pool.block_tokens
        return True

    def admit(self, sequence: Sequence, tier: Tier, *, respects_watermark: bool) -> bool:
        """Give a sequence the blocks of everything it must prefill; False when they do not fit."""
        pool = self.pool(tier)
        needed = pool.blocks_for(sequence.target)
        reserve = self.watermark_blocks if respects_watermark and tier is Tier.GPU else 0
        if needed + reserve > pool.num_free:
            return False
        self._give(sequence, tier, needed)
        return True

    def move(self, sequence: Sequence, tier: Tier) -> bool:
        """Move a decoding sequence with room for its next token; False when it does not fit.

        The step program copies. It orders the reuse of GPU blocks behind the copy; host blocks
        stay out of the pool until `settle()`, after the step.
        """
        pool = self.pool(tier)
        needed = pool.blocks_for(sequence.computed + 1)
        if needed > pool.num_free:
            return False
        source = tuple(sequence.blocks)
        if tier is Tier.GPU:
            self._leaving.append(sequence.blocks)
        else:
            self.release(sequence)
        self._give(sequence, tier, needed)
        target = tuple(sequence.blocks)
        self._moves.append(KvMove(sequence.id, tier, sequence.computed, source, target))
        sequence.swaps += 1
        return True

    def take_moves(self) -> tuple[KvMove, ...]:
        """What was moved since the last call: the copies of the step at hand."""
        if not self._moves:
            return ()
        moves, self._moves = tuple(self._moves), []
        return moves

    def settle(self) -> None:
        """The step's copies are done: host blocks that were swapped in are free."""
        for blocks in self._leaving:
            self.pool(Tier.CPU).release(blocks)
        self._leaving.clear()

    def release(self, sequence: Sequence) -> None:
        """Give all blocks back."""
        self.pool(sequence.tier).release(sequence.blocks)
        sequence.room = 0

    def _give(self, sequence: Sequence, tier: Tier, count: int) -> None:
        pool = self.pool(tier)
        sequence.tier = tier
        sequence.blocks = pool.allocate(count)
        sequence.room = count * pool.block_tokens
