"""Gives out block ids of a cache in long neighbouring runs; moves no data and knows no sequence.

How long physically contiguous runs are decides how fast attention reads them, more than anything
else: blocks of 16 tokens scattered over memory are read at about half the speed of runs of 256 KiB.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from apexbench.errors import UsageError

# What stands in a block table beyond a row's blocks; never read.
UNUSED_BLOCK = -1


class ExtentAllocator:
    """Block ids 0 .. num_blocks - 1, in extents of `extent_blocks` neighbours.

    A sequence grows with `grow(ids, count)`, which first takes the ids that follow its last one in
    the extent it began, then whole extents, which it reserves, and only when none is left single
    blocks wherever they are, also those that others have reserved and not taken. Deterministic.
    """

    def __init__(self, num_blocks: int, extent_blocks: int) -> None:
        if num_blocks < 1 or extent_blocks < 1:
            raise UsageError(
                f"num_blocks is {num_blocks} and extent_blocks is {extent_blocks}; expected at"
                " least 1 each"
            )
        self.num_blocks = num_blocks
        self.extent_blocks = extent_blocks
        self._is_free = [True] * num_blocks
        self._num_free = num_blocks
        num_extents = -(-num_blocks // extent_blocks)
        self._free_in_extent = [self._size_of(extent) for extent in range(num_extents)]
        # Extents of which every block is free, ascending; and those that have some.
        self._whole = list(range(num_extents))
        self._partial: list[int] = []

    @property
    def num_free(self) -> int:
        """Blocks nobody has."""
        return self._num_free

    def grow(self, blocks: Sequence[int], count: int) -> list[int]:
        """Take `count` more blocks for a sequence that has `blocks`; the new ids in order.

        Raises UsageError, and takes nothing, when fewer are free.
        """
        if not 0 <= count <= self._num_free:
            raise UsageError(
                f"{count} blocks were asked for and {self._num_free} of {self.num_blocks} are free;"
                " free sequences first, or make the cache larger"
            )
        taken: list[int] = []
        last = blocks[-1] if blocks else None
        while len(taken) < count:
            block = self._after(last)
            self._take(block)
            taken.append(block)
            last = block
        return taken

    def free(self, blocks: Iterable[int]) -> None:
        """Give blocks back; UsageError for one that nobody has, those before it are free then."""
        for block in blocks:
            if not 0 <= block < self.num_blocks or self._is_free[block]:
                raise UsageError(f"block {block} is not in use; a block is freed once")
            self._give(block)

    def _after(self, last: int | None) -> int:
        """The best free block to follow `last`: its neighbour, a whole extent, any."""
        if last is not None and last + 1 < self.num_blocks and self._is_free[last + 1]:
            is_same_extent = (last + 1) // self.extent_blocks == last // self.extent_blocks
            if is_same_extent or self._is_whole((last + 1) // self.extent_blocks):
                return last + 1
        if self._whole:
            return self._whole[0] * self.extent_blocks
        return self._first_free(self._partial[0])

    def _first_free(self, extent: int) -> int:
        begin = extent * self.extent_blocks
        return self._is_free.index(True, begin, begin + self._size_of(extent))

    def _take(self, block: int) -> None:
        extent = block // self.extent_blocks
        if self._is_whole(extent):
            del self._whole[bisect_left(self._whole, extent)]
            insort(self._partial, extent)
        self._is_free[block] = False
        self._num_free -= 1
        self._free_in_extent[extent] -= 1
        if not self._free_in_extent[extent]:
            del self._partial[bisect_left(self._partial, extent)]

    def _give(self, block: int) -> None:
        extent = block // self.extent_blocks
        if not self._free_in_extent[extent]:
            insort(self._partial, extent)
        self._is_free[block] = True
        self._num_free += 1
        self._free_in_extent[extent] += 1
        if self._is_whole(extent):
            del self._partial[bisect_left(self._partial, extent)]
            insort(self._whole, extent)

    def _is_whole(self, extent: int) -> bool:
        return self._free_in_extent[extent] == self._size_of(extent)

    def _size_of(self, extent: int) -> int:
        return min(self.extent_blocks, self.num_blocks - extent * self.extent_blocks)


def block_table(sequences: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Block ids of all sequences as the array attention takes: int32 [sequences, most blocks].

    Entries beyond a sequence's blocks are UNUSED_BLOCK; at least one column.
    """
    width = max((len(blocks) for blocks in sequences), default=0)
    table = np.full((len(sequences), max(width, 1)), UNUSED_BLOCK, np.int32)
    for row, blocks in zip(table, sequences, strict=True):
        row[: len(blocks)] = blocks
    return table
