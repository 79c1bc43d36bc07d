import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.blocks import BlockPool
from apexbench.errors import InvariantError


def test_a_fresh_pool_hands_out_long_runs() -> None:
    pool = BlockPool(4, 16)
    assert pool.allocate(3) == [0, 1, 2]
    assert (pool.num_used, pool.num_free, pool.num_tokens) == (3, 1, 64)
    assert (pool.is_free(3), pool.is_free(0)) == (True, False)


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_blocks_for(tokens, blocks) -> None:
    assert BlockPool(1, 16).blocks_for(tokens) == blocks


def test_too_much_and_twice_are_refused() -> None:
    pool = BlockPool(2, 16)
    with pytest.raises(InvariantError, match="asked for 3 KV blocks, 2 are free"):
        pool.allocate(3)
    taken = pool.allocate(1)
    copy = list(taken)
    pool.release(taken)
    assert taken == []
    with pytest.raises(InvariantError, match="freed twice"):
        pool.release(copy)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_blocks_are_conserved_and_never_shared(counts) -> None:
    pool = BlockPool(20, 4)
    held: list[list[int]] = []
    for count in counts:
        if count <= pool.num_free:
            held.append(pool.allocate(count))
        elif held:
            pool.release(held.pop(0))
        owned = [block for blocks in held for block in blocks]
        assert len(set(owned)) == len(owned) == pool.num_used
        assert pool.num_used + pool.num_free == 20
