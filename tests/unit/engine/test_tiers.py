import pytest

from apexbench.engine.blocks import BlockPool
from apexbench.engine.sequence import Sequence, Tier
from apexbench.engine.tiers import KvMemory
from apexbench.records import Request


def memory(watermark: float = 0.0) -> KvMemory:
    return KvMemory(BlockPool(10, 4), BlockPool(4, 16), watermark)


def sequence(prompt: int) -> Sequence:
    return Sequence(Request(0, 0, prompt, 9), 0)


def test_admission_reserves_the_prompt_and_respects_the_watermark() -> None:
    kv, row = memory(0.2), sequence(33)
    assert not kv.admit(row, Tier.GPU, respects_watermark=True)
    assert row.blocks == []
    assert kv.admit(row, Tier.GPU, respects_watermark=False)
    assert (len(row.blocks), row.room) == (9, 36)


def test_growth_takes_a_block_when_the_next_token_needs_one() -> None:
    kv, row = memory(), sequence(36)
    kv.admit(row, Tier.GPU, respects_watermark=False)
    row.computed = 35
    assert kv.grow(row)
    assert row.room == 36
    row.computed = 36
    assert kv.grow(row)
    assert row.room == 40
    row.computed = 40
    assert not kv.grow(row)
    assert len(row.blocks) == 10


def test_moving_in_quarantines_host_blocks_until_the_step_is_over() -> None:
    kv, row = memory(), sequence(20)
    kv.admit(row, Tier.CPU, respects_watermark=False)
    row.computed = 20
    assert kv.move(row, Tier.GPU)
    assert (row.tier, row.room, row.swaps) == (Tier.GPU, 24, 1)
    assert kv.pool(Tier.CPU).num_free == 2
    assert len(kv.leaving) == 1
    kv.settle()
    assert kv.pool(Tier.CPU).num_free == 4


def test_moving_out_needs_room_for_the_next_token() -> None:
    kv, row = KvMemory(BlockPool(10, 4), BlockPool(1, 16), 0.0), sequence(16)
    kv.admit(row, Tier.GPU, respects_watermark=False)
    row.computed = 16
    assert not kv.move(row, Tier.CPU)
    assert (row.tier, len(row.blocks)) == (Tier.GPU, 4)
    row.computed = 15
    assert kv.move(row, Tier.CPU)
    assert kv.gpu.num_free == 10


@pytest.mark.parametrize(("cpu", "expected"), [(None, 40), (BlockPool(4, 16), 64)])
def test_the_longest_sequence(cpu, expected) -> None:
    assert KvMemory(BlockPool(10, 4), cpu, 0.0).max_sequence_tokens == expected
