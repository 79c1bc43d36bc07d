"""The CPU's table of a device profile: (rows, tokens, dtype, threads) -> seconds, with spread."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from apexbench.cpu_kernels.bench.calls import Calls, WorkerPool, open_calls
from apexbench.cpu_kernels.bench.kv import KernelContestant, Rows, rotating_cache
from apexbench.cpu_kernels.bench.samples import summarise
from apexbench.cpu_kernels.bench.scope import HEAD_DIM, PASS_BYTES, Shape
from apexbench.cpu_kernels.geometry import KvDtype, KvGeometry

TABLE_ROWS = (1, 4, 16, 64, 256)
TABLE_TOKENS = (16, 128, 512, 2048, 8192)
TABLE_DTYPES: tuple[KvDtype, ...] = ("fp16", "int8")
# A layer larger than this takes as long as its bytes; the table may be extrapolated.
MAX_LAYER_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class TableEntry:
    """Attention of `rows` rows of `tokens` tokens each, in one layer, submission and join included.

    seconds: median over calls on KV that no cache holds, workers awake; spread: interquartile range
    over median.
    """

    rows: int
    tokens: int
    dtype: KvDtype
    threads: int
    seconds: float
    spread: float


@dataclass(frozen=True, slots=True)
class TableModel:
    """The attention layer that the table is of."""

    num_q_heads: int = 32
    num_kv_heads: int = 8
    head_dim: int = HEAD_DIM
    block_size: int = 64


def attention_table(
    *,
    rows: Sequence[int] = TABLE_ROWS,
    tokens: Sequence[int] = TABLE_TOKENS,
    dtypes: Sequence[KvDtype] = TABLE_DTYPES,
    threads: Sequence[int] = (1,),
    model: TableModel | None = None,
    num_repeats: int = 7,
    check: Callable[[], None] = lambda: None,
) -> Iterator[TableEntry]:
    """Measure every combination of which one layer's KV is at most MAX_LAYER_BYTES, one by one.

    The level is the one in use (APEXBENCH_ISA, else the best of this CPU). `check` is called
    between measurements and may raise to stop. Raises InputError where the kernels are not compiled
    or the machine has too little memory, UsageError for a geometry that cannot be.
    """
    calls = open_calls()
    pools = {count: WorkerPool(calls, count) for count in threads}
    try:
        for shape, dtype in product(_shapes(rows, tokens, model or TableModel()), dtypes):
            if _layer_bytes(shape, dtype) <= MAX_LAYER_BYTES:
                yield from _measure(calls, pools, shape, dtype, (num_repeats, check))
    finally:
        for pool in pools.values():
            pool.close()


def _shapes(rows: Sequence[int], tokens: Sequence[int], model: TableModel) -> list[Shape]:
    heads = (model.num_q_heads, model.num_kv_heads, model.head_dim)
    return [
        Shape(batch, context, model.block_size, *heads) for batch, context in product(rows, tokens)
    ]


def _layer_bytes(shape: Shape, dtype: KvDtype) -> int:
    num_blocks = shape.batch * -(-shape.context // shape.block_size)
    sizes = (shape.num_kv_heads, shape.head_dim, shape.block_size)
    return KvGeometry(1, num_blocks, *sizes, dtype).layer_bytes


def _measure(
    calls: Calls,
    pools: dict[int, WorkerPool],
    shape: Shape,
    dtype: KvDtype,
    pace: tuple[int, Callable[[], None]],
) -> Iterator[TableEntry]:
    num_repeats, check = pace
    widest = pools[max(pools)]
    cache = rotating_cache(shape, dtype, widest)
    rows = Rows(shape.contexts, shape.num_q_heads)
    for threads, pool in pools.items():
        contestant = KernelContestant(calls, cache, rows, calls.level(), pool)
        num_calls = -(-PASS_BYTES // contestant.kv_bytes)
        contestant.time_calls(num_calls)
        measured = []
        for _ in range(num_repeats):
            check()
            measured.append(contestant.time_calls(num_calls))
        seconds = summarise(np.concatenate(measured))
        yield TableEntry(shape.batch, shape.context, dtype, threads, seconds.median, seconds.spread)
