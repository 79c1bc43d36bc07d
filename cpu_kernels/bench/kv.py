"""KV memory that no cache holds, jobs on it, and our kernels as contestants; judges nothing."""

import ctypes
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.calls import CallPlan, Calls, Seconds, WorkerPool, on_cpus
from apexbench.cpu_kernels.bench.samples import Pass
from apexbench.cpu_kernels.bench.scope import PASS_BYTES, ROTATION_BYTES, Shape
from apexbench.cpu_kernels.cache import KvCache
from apexbench.cpu_kernels.geometry import ELEMENT_BYTES, ElementDtype, KvDtype, KvGeometry
from apexbench.cpu_kernels.job import Job
from apexbench.cpu_kernels.numbers import narrow
from apexbench.cpu_kernels.structures import SubmissionStruct

# Different tokens in a cache; the rest repeats them, which no CPU can tell from the time it takes.
PATTERN_TOKENS = 512
SEED = 0


def q_dtype_of(kv_dtype: KvDtype) -> ElementDtype:
    """Of q and the result: that of KV, and fp16 where KV has 8 bits."""
    return "fp16" if kv_dtype == "int8" or kv_dtype == "fp8" else kv_dtype


def kv_bytes_per_token(geometry: KvGeometry) -> int:
    """Bytes of K and V of one token in one layer, scales included, padding not."""
    elements = geometry.head_dim * ELEMENT_BYTES[geometry.kv_dtype]
    scales = ELEMENT_BYTES[geometry.scale_dtype] if geometry.kv_dtype == "int8" else 0
    return 2 * geometry.num_kv_heads * (elements + scales)


def fill(cache: KvCache) -> None:
    """Some blocks through the cache's own conversion, then copied all over its memory."""
    geometry = cache.geometry
    num_blocks = min(geometry.num_blocks, max(1, PATTERN_TOKENS // geometry.block_size))
    shape = (2, num_blocks * geometry.block_size, geometry.num_kv_heads, geometry.head_dim)
    k, v = np.random.default_rng(SEED).standard_normal(shape, np.float32)
    cache.store(0, range(num_blocks), 0, k, v)
    blocks = cache.memory.reshape(-1, geometry.block_bytes)
    for begin in range(num_blocks, len(blocks), num_blocks):
        end = min(begin + num_blocks, len(blocks))
        blocks[begin:end] = blocks[: end - begin]


def rotating_cache(shape: Shape, kv_dtype: KvDtype, pool: WorkerPool) -> KvCache:
    """A filled cache for batches of this shape, of as many layers as make ROTATION_BYTES."""
    num_blocks = shape.batch * -(-shape.context // shape.block_size)
    sizes = (num_blocks, shape.num_kv_heads, shape.head_dim, shape.block_size)
    num_layers = math.ceil(ROTATION_BYTES / KvGeometry(1, *sizes, kv_dtype).layer_bytes)
    cache = KvCache(KvGeometry(num_layers, *sizes, kv_dtype), pool)
    fill(cache)
    return cache


def shuffled_tables(geometry: KvGeometry, contexts: tuple[int, ...]) -> NDArray[np.int32]:
    """A block table for rows of these lengths, every block of a layer at a random place."""
    counts = [geometry.blocks_of(context) for context in contexts]
    ids = np.random.default_rng(SEED).permutation(geometry.num_blocks)[: sum(counts)]
    table = np.zeros((len(contexts), max(*counts, 1)), np.int32)
    for row, blocks in enumerate(np.split(ids, np.cumsum(counts)[:-1])):
        table[row, : len(blocks)] = blocks
    return table


@dataclass(frozen=True, slots=True)
class Rows:
    """Lengths and query heads of a batch."""

    contexts: tuple[int, ...]
    num_q_heads: int


class LayeredJob:
    """A job of one level, prepared once, with a submission for every layer of its cache."""

    def __init__(self, calls: Calls, cache: KvCache, rows: Rows, isa: str) -> None:
        geometry = cache.geometry
        dtype = q_dtype_of(geometry.kv_dtype)
        tables = shuffled_tables(geometry, rows.contexts)
        with calls.forced(isa):
            job = Job(cache).prepare(
                tables,
                np.array(rows.contexts, np.int32),
                rows.num_q_heads,
                dtype,
                geometry.head_dim**-0.5,
                checks_blocks=False,
            )
        shape = (len(rows.contexts), rows.num_q_heads, geometry.head_dim)
        q = narrow(np.random.default_rng(SEED + 1).standard_normal(shape, np.float32), dtype)
        self.out = np.zeros_like(q)
        self.bound = job.bind(q, self.out)
        self.structs = (SubmissionStruct * geometry.num_layers)()
        for layer in range(geometry.num_layers):
            self.structs[layer] = self.bound.struct
            self.structs[layer].layer = layer
        self.num_tokens = sum(rows.contexts)
        self.kv_bytes = self.num_tokens * kv_bytes_per_token(geometry)


class KernelContestant:
    """Our kernel at one level, on a pool whose workers are awake, or inline on its first CPU."""

    def __init__(
        self,
        calls: Calls,
        cache: KvCache,
        rows: Rows,
        isa: str,
        pool: WorkerPool,
        *,
        is_inline: bool = False,
    ) -> None:
        self._calls = calls
        self._pool = None if is_inline else pool.handle
        self._caller_cpus = pool.cpus[:1] if is_inline else pool.other_cpus
        self._job = LayeredJob(calls, cache, rows, isa)
        self._wake = LayeredJob(calls, cache, Rows((1,), rows.num_q_heads), isa)
        self._calls_per_pass = math.ceil(PASS_BYTES / self._job.kv_bytes)
        self._next_layer = 0
        self.kv_bytes = self._job.kv_bytes
        self.num_tokens = self._job.num_tokens
        self.kv_dtype = cache.geometry.kv_dtype
        self.huge_page_fraction = cache.huge_page_fraction
        self.isa = isa

    def run(self) -> Pass:
        """As many jobs as make a pass, one after the other, each on the next layer."""
        seconds = self.time_calls(self._calls_per_pass)
        return Pass(float(seconds.sum()), len(seconds) * self.kv_bytes)

    def time_calls(self, num_calls: int) -> Seconds:
        """Seconds of that many jobs, submitted and awaited one by one."""
        structs = self._job.structs
        plan = CallPlan(
            pool=self._pool,
            submissions=ctypes.addressof(structs),
            num_submissions=len(structs),
            num_calls=num_calls,
            warm_up=ctypes.addressof(self._wake.structs),
            first=self._next_layer,
        )
        self._next_layer = (self._next_layer + num_calls) % len(structs)
        with on_cpus(self._caller_cpus):
            return self._calls.time_calls(plan)
