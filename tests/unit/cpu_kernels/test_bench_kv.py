"""What a pass reads: how many bytes, which layers, in which order; on small caches."""

import ctypes
import os
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.cpu_kernels import KvCache, KvGeometry
from apexbench.cpu_kernels.bench import kv
from apexbench.cpu_kernels.bench.calls import CallPlan, Calls, Seconds, WorkerPool
from apexbench.cpu_kernels.bench.kv import KernelContestant, LayeredJob, Rows, fill
from apexbench.cpu_kernels.bench.scope import Shape, shape_of
from apexbench.cpu_kernels.native import Library
from apexbench.cpu_kernels.numbers import widen

ROWS = Rows((20, 33, 0), 4)


@pytest.fixture
def calls(compiled: Library) -> Calls:
    """The library as the bench calls it."""
    return Calls(compiled)


@pytest.fixture
def workers(calls: Calls) -> Iterator[WorkerPool]:
    """One worker."""
    made = WorkerPool(calls, 1)
    yield made
    made.close()


@pytest.fixture
def three_layers() -> KvCache:
    """Layers that differ: the blocks of each hold other tokens."""
    cache = KvCache(KvGeometry(3, 8, 2, 32, 16, "fp16"))
    rng = np.random.default_rng(1)
    for layer in range(3):
        k, v = rng.standard_normal((2, 128, 2, 32), np.float32)
        cache.store(layer, range(8), 0, k, v)
    return cache


@pytest.mark.parametrize(
    ("dtype", "num_bytes"),
    [("fp32", 2 * 8 * 512), ("bf16", 2 * 8 * 256), ("int8", 2 * 8 * 130), ("fp8", 2 * 8 * 128)],
)
def test_bytes_of_a_token_are_those_of_k_and_v_with_their_scales(
    dtype: str, num_bytes: int
) -> None:
    geometry = KvGeometry(1, 1, 8, 128, 16, dtype)  # type: ignore[arg-type]
    assert kv.kv_bytes_per_token(geometry) == num_bytes


@given(st.lists(st.integers(0, 70), min_size=1, max_size=8), st.sampled_from([8, 16, 64]))
def test_a_shuffled_table_gives_every_row_blocks_of_its_own(
    contexts: list[int], block_size: int
) -> None:
    needed = sum(-(-context // block_size) for context in contexts)
    geometry = KvGeometry(1, max(needed, 1) + 2, 1, 16, block_size)
    table = kv.shuffled_tables(geometry, tuple(contexts))
    used = [
        table[row, : geometry.blocks_of(context)].tolist() for row, context in enumerate(contexts)
    ]
    ids = [block for row in used for block in row]
    assert len(ids) == needed == len(set(ids))
    assert all(0 <= block < geometry.num_blocks for block in ids)


def test_a_table_of_many_blocks_is_not_in_order() -> None:
    table = kv.shuffled_tables(KvGeometry(1, 64, 1, 16, 16), (1024,))
    assert (np.diff(table[0]) == 1).mean() < 0.2


def test_filling_leaves_ordinary_values_in_every_block_of_every_layer(compiled: Library) -> None:
    cache = KvCache(KvGeometry(3, 70, 2, 32, 16, "int8"))
    fill(cache)
    for layer in range(3):
        k, v = cache.load(layer, range(70), 0, 70 * 16)
        assert np.isfinite(k).all()
        assert 0.9 < k.std() < 1.1
        assert np.abs(v).max(axis=(1, 2)).min() > 0


def test_a_cache_to_rotate_over_has_as_many_layers_as_its_total_needs(
    calls: Calls, workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv, "ROTATION_BYTES", 1 << 20)
    cache = kv.rotating_cache(Shape(3, 40, 16, 4, 2, 32), "fp16", workers)
    assert cache.geometry.num_blocks == 9
    layer_bytes = 9 * 16 * 2 * 32 * 2 * 2
    assert cache.geometry.num_layers == -(-(1 << 20) // layer_bytes)


def test_a_call_plan_takes_its_layers_in_turn_from_the_first(
    calls: Calls, workers: WorkerPool, three_layers: KvCache
) -> None:
    job = LayeredJob(calls, three_layers, ROWS, "reference")
    results = []
    for layer in range(3):
        job.bound.run_inline(layer)
        results.append(output(job))
    plan = CallPlan(
        pool=workers.handle,
        submissions=ctypes.addressof(job.structs),
        num_submissions=3,
        num_calls=6,
        first=2,
    )
    seconds = calls.time_calls(plan)  # layers 2, 0, 1, 2, 0, 1
    assert seconds.shape == (6,)
    assert (seconds > 0).all()
    assert np.array_equal(output(job), results[1])
    assert not np.array_equal(results[0], results[1])


def test_a_contestant_goes_on_with_the_next_layer(
    calls: Calls, workers: WorkerPool, three_layers: KvCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts = []
    monkeypatch.setattr(kv, "PASS_BYTES", 2 * 53 * 2 * 2 * 32 * 2)

    def note(plan: CallPlan) -> Seconds:
        firsts.append(plan.first)
        return np.full(plan.num_calls, 0.25)

    monkeypatch.setattr(calls, "time_calls", note)
    contestant = KernelContestant(calls, three_layers, ROWS, "reference", workers)
    passes = [contestant.run() for _ in range(4)]
    assert firsts == [0, 2, 1, 0]
    assert {one.seconds for one in passes} == {0.5}
    assert {one.num_bytes for one in passes} == {2 * 53 * 2 * 2 * 32 * 2}


def test_the_caller_keeps_off_the_workers_and_an_inline_one_takes_their_place(
    calls: Calls, workers: WorkerPool, three_layers: KvCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def note(plan: CallPlan) -> Seconds:
        seen.append(os.sched_getaffinity(0))
        return np.ones(plan.num_calls)

    monkeypatch.setattr(calls, "time_calls", note)
    for is_inline in (False, True):
        contestant = KernelContestant(
            calls, three_layers, ROWS, "reference", workers, is_inline=is_inline
        )
        contestant.time_calls(1)
    allowed = os.sched_getaffinity(0)
    assert seen == [allowed - set(workers.cpus) or allowed, set(workers.cpus)]


def test_inline_calls_compute_the_same(
    calls: Calls, workers: WorkerPool, three_layers: KvCache
) -> None:
    inline = KernelContestant(calls, three_layers, ROWS, "reference", workers, is_inline=True)
    pooled = KernelContestant(calls, three_layers, ROWS, "reference", workers)
    found = []
    for contestant in (inline, pooled):
        contestant.time_calls(2)
        found.append(output(contestant._job))
    assert np.array_equal(found[0], found[1])
    assert found[0].any()


def test_urgent_calls_end_with_the_background_and_both_are_computed(
    calls: Calls, workers: WorkerPool, three_layers: KvCache
) -> None:
    large = LayeredJob(calls, three_layers, ROWS, "reference")
    small = LayeredJob(calls, three_layers, Rows((5,), 4), "reference")
    seconds = calls.time_urgent(workers.handle, large.structs[0], small.structs[0], 3)
    assert len(seconds) <= 3
    assert output(large).any()


def test_shapes_have_the_heads_of_their_group() -> None:
    shape = shape_of(8, 64, 2, 100)
    assert (shape.num_q_heads, shape.num_kv_heads, shape.gqa_group) == (64, 8, 8)
    assert shape.contexts == (100, 100)


def output(job: LayeredJob) -> np.ndarray:
    """A copy of what the job's last call wrote."""
    out: np.ndarray = widen(job.out.copy(), "fp16")
    return out
