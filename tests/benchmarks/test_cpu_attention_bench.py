"""Decode attention on the CPU, measured with pytest-benchmark; no absolute times are asserted.

KV that no cache holds: 512 MiB in layers that take turns. `python -m apexbench.cpu_kernels.bench`
says more: how far each level and shape is from this machine's read limit.
"""

import os
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from apexbench.cpu_kernels import KvCache, KvGeometry, Pool
from apexbench.cpu_kernels.bench.calls import Calls, ReadOptions, WorkerPool, touched_bytes
from apexbench.cpu_kernels.bench.kv import LayeredJob, Rows, fill
from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.cpu_kernels.native import BUILD_COMMAND, library

BATCH, CONTEXT, BLOCK_SIZE, HEAD_DIM = 16, 2048, 64, 128
TOTAL_BYTES = 512 << 20
GROUPS = {"MHA": (32, 32), "GQA-4": (32, 8), "GQA-8": (64, 8)}


@pytest.fixture(scope="module")
def calls() -> Calls:
    """The library as the bench calls it."""
    found = library()
    if found is None:
        pytest.skip(f"UNPROVEN: the CPU kernels are not compiled; run: {BUILD_COMMAND}")
    return Calls(found)


@pytest.fixture
def pool(calls: Calls) -> Iterator[Pool]:
    """One worker of the compiled library."""
    with Pool(1) as made:
        yield made


def job_of(
    calls: Calls, pool: Pool, group: str, dtype: KvDtype, contexts: tuple[int, ...]
) -> LayeredJob:
    """A job at the level in use, over as many layers as make TOTAL_BYTES."""
    num_q_heads, num_kv_heads = GROUPS[group]
    num_blocks = sum(-(-context // BLOCK_SIZE) for context in contexts)
    sizes = (num_blocks, num_kv_heads, HEAD_DIM, BLOCK_SIZE, dtype)
    num_layers = -(-TOTAL_BYTES // KvGeometry(1, *sizes).layer_bytes)
    cache = KvCache(KvGeometry(num_layers, *sizes), pool)
    fill(cache)
    return LayeredJob(calls, cache, Rows(contexts, num_q_heads), calls.level())


def in_turn(pool: Pool, job: LayeredJob) -> Iterator[None]:
    """One call after the other, each on the next layer."""
    while True:
        for layer in range(len(job.structs)):
            pool.launch(job.bound, layer).wait()
            yield


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("group", list(GROUPS))
def test_attention_of_a_batch_on_one_thread(
    benchmark: BenchmarkFixture, calls: Calls, pool: Pool, group: str, dtype: KvDtype
) -> None:
    job = job_of(calls, pool, group, dtype, (CONTEXT,) * BATCH)
    turns = in_turn(pool, job)
    benchmark.extra_info |= {"kv_bytes": job.kv_bytes, "isa": calls.level()}
    benchmark(next, turns)
    assert job.out.any()


def test_attention_of_many_short_rows(
    benchmark: BenchmarkFixture, calls: Calls, pool: Pool
) -> None:
    job = job_of(calls, pool, "GQA-4", "fp16", (128,) * 256)
    turns = in_turn(pool, job)
    benchmark.extra_info |= {"kv_bytes": job.kv_bytes, "isa": calls.level()}
    benchmark(next, turns)
    assert job.out.any()


def test_submit_and_join_from_python(benchmark: BenchmarkFixture, calls: Calls, pool: Pool) -> None:
    """Next to no work: one token of one layer that stays in a cache."""
    job = job_of(calls, pool, "GQA-4", "fp16", (1,))
    benchmark(lambda: pool.launch(job.bound, 0).wait())
    assert job.out.any()


def test_reading_memory_on_one_thread(benchmark: BenchmarkFixture, calls: Calls) -> None:
    """What the times above are to be compared with."""
    workers = WorkerPool(calls, 1)
    memory = touched_bytes(calls, TOTAL_BYTES, workers)
    workers.close()
    options = ReadOptions(reader=1, num_threads=1, num_streams=1, distance_bytes=1024)
    benchmark.extra_info |= {"bytes": TOTAL_BYTES, "cpus": len(os.sched_getaffinity(0))}
    _, num_read = benchmark(calls.read, options, memory.ctypes.data, memory.size)
    assert num_read == TOTAL_BYTES
