"""Laws of the extent allocator: no block twice, all come back, runs stay long while they can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.cpu_kernels import ExtentAllocator, block_table
from apexbench.cpu_kernels.extents import UNUSED_BLOCK
from apexbench.errors import UsageError

# A step: the sequence (taken modulo those there are), how many blocks it grows by, 0 = it ends.
STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=60)


@given(st.integers(1, 60), st.integers(1, 12), STEPS)
def test_no_block_is_given_twice_and_all_come_back(
    num_blocks: int, extent_blocks: int, steps: list[tuple[int, int]]
) -> None:
    allocator = ExtentAllocator(num_blocks, extent_blocks)
    sequences: dict[int, list[int]] = {}
    for sequence, count in steps:
        blocks = sequences.setdefault(sequence, [])
        if not count:
            allocator.free(sequences.pop(sequence))
        elif count <= allocator.num_free:
            blocks += allocator.grow(blocks, count)
        else:
            with pytest.raises(UsageError, match="are free; free sequences first"):
                allocator.grow(blocks, count)
        held = [block for owned in sequences.values() for block in owned]
        assert len(set(held)) == len(held)
        assert set(held) <= set(range(num_blocks))
        assert allocator.num_free == num_blocks - len(held)
    for blocks in sequences.values():
        allocator.free(blocks)
    # As new: one run over everything.
    assert allocator.grow([], num_blocks) == list(range(num_blocks))


@given(st.integers(1, 8), st.integers(1, 6), st.integers(1, 40))
def test_sequences_that_grow_in_turns_fill_whole_extents(
    extent_blocks: int, num_sequences: int, rounds: int
) -> None:
    num_extents = num_sequences * -(-rounds // extent_blocks)
    allocator = ExtentAllocator(num_extents * extent_blocks, extent_blocks)
    sequences: list[list[int]] = [[] for _ in range(num_sequences)]
    for _ in range(rounds):
        for blocks in sequences:
            blocks.extend(allocator.grow(blocks, 1))
    for blocks in sequences:
        for begin in range(0, rounds, extent_blocks):
            run = blocks[begin : begin + extent_blocks]
            assert run == list(range(run[0], run[0] + len(run)))
            assert run[0] % extent_blocks == 0


def test_a_lone_sequence_runs_on_over_extents() -> None:
    allocator = ExtentAllocator(12, 4)
    blocks = allocator.grow([], 3)
    blocks += allocator.grow(blocks, 9)
    assert blocks == list(range(12))


def test_scattered_blocks_are_used_when_no_extent_is_left() -> None:
    allocator = ExtentAllocator(8, 4)
    first, second = allocator.grow([], 1), allocator.grow([], 1)
    assert (first, second) == ([0], [4])
    assert allocator.grow([], 3) == [1, 2, 3]
    assert allocator.grow(first, 3) == [5, 6, 7]


@pytest.mark.parametrize("blocks", [[3], [8], [-1], [0, 0]])
def test_freeing_what_nobody_has_is_refused(blocks: list[int]) -> None:
    allocator = ExtentAllocator(8, 4)
    allocator.grow([], 2)
    with pytest.raises(UsageError, match="is not in use; a block is freed once"):
        allocator.free(blocks)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="num_blocks is 0 and extent_blocks is 4; expected"):
        ExtentAllocator(0, 4)


def test_block_table_pads_to_the_longest() -> None:
    table = block_table([[4, 5], [], [7]])
    assert table.dtype == np.int32
    assert table.tolist() == [[4, 5], [UNUSED_BLOCK] * 2, [7, UNUSED_BLOCK]]
    assert block_table([]).shape == (0, 1)
