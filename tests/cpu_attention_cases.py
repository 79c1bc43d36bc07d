"""Cases of decode attention as data, and the random tensors they stand for; runs no kernel."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.cpu_attention_numbers import FORMATS, Floats, rounded
from tests.cpu_attention_reference import KvFormat, PagedKv, RowAttention, Rules, attend, kv_format

HEAD_DIMS = (64, 80, 96, 128, 256)
BLOCK_SIZES = (8, 16, 32, 48, 64, 128)
GROUPS = (1, 2, 3, 4, 5, 6, 7, 8, 12)
Q_DTYPES = ("fp32", "fp16", "bf16")
KV_FORMATS = ("fp32", "fp16", "bf16", "fp8", "int8-fp32", "int8-fp16")
SPARE_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One batch of rows in one layer; magnitudes are the standard deviations of q, K and V."""

    lengths: tuple[int, ...]
    kv: str = "fp32"  # of KV_FORMATS
    q_dtype: str = "fp32"
    head_dim: int = 64
    block_size: int = 16
    kv_heads: int = 1
    group: int = 1
    softmax_scale: float = 0.125
    window: int = 0
    sink_tokens: int = 0
    has_sink_logits: bool = False
    shares_prefix: bool = False
    q_size: float = 1.0
    k_size: float = 1.0
    v_size: float = 1.0
    seed: int = 0

    @property
    def q_heads(self) -> int:
        """Query heads of all KV heads."""
        return self.kv_heads * self.group

    @property
    def form(self) -> KvFormat:
        """How the cache holds K and V."""
        return kv_format(self.kv)

    @property
    def blocks_per_row(self) -> int:
        """Columns of the block table."""
        return max(1, *(-(-length // self.block_size) for length in self.lengths))


@dataclass(slots=True)
class Tensors:
    """What a case stands for: values that q_dtype holds, float64.

    q [rows, q_heads, dim]; k, v: per row [length, kv_heads, dim]; tables [rows, blocks_per_row];
    sink_logits [q_heads].
    """

    q: Floats
    k: list[Floats]
    v: list[Floats]
    tables: NDArray[np.int32]
    num_blocks: int
    sink_logits: Floats | None


def tensors(case: Case) -> Tensors:
    """Random ones from the case's seed."""
    rng = np.random.default_rng(case.seed)
    form = FORMATS[case.q_dtype]

    def normal(size: float, *shape: int) -> Floats:
        with np.errstate(over="ignore"):
            return rounded((size * rng.standard_normal(shape)).astype(np.float32), form)

    kv_shape = (case.kv_heads, case.head_dim)
    tables, num_blocks = block_tables(case, rng)
    return Tensors(
        q=normal(case.q_size, len(case.lengths), case.q_heads, case.head_dim),
        k=[normal(case.k_size, length, *kv_shape) for length in case.lengths],
        v=[normal(case.v_size, length, *kv_shape) for length in case.lengths],
        tables=tables,
        num_blocks=num_blocks,
        sink_logits=rng.standard_normal(case.q_heads).astype(np.float32).astype(np.float64)
        if case.has_sink_logits
        else None,
    )


def block_tables(case: Case, rng: np.random.Generator) -> tuple[NDArray[np.int32], int]:
    """Shuffled block ids; columns a row does not use hold the block of somebody else."""
    rows, columns = len(case.lengths), case.blocks_per_row
    num_blocks = rows * columns + SPARE_BLOCKS
    ids = rng.permutation(num_blocks).astype(np.int32)
    tables = ids[: rows * columns].reshape(rows, columns)
    if case.shares_prefix:
        for row in range(1, rows):
            own = max(min(case.lengths[row], case.lengths[0]) - 1, 0) // case.block_size
            tables[row, :own] = tables[0, :own]
    return tables, num_blocks


def filled(case: Case, data: Tensors, layer: int = 0, num_layers: int = 1) -> PagedKv:
    """The reference's cache with all rows stored in order; the last writer owns shared blocks."""
    cache = PagedKv(
        case.form, num_layers, data.num_blocks, case.block_size, case.kv_heads, case.head_dim
    )
    for table, k, v in zip(data.tables, data.k, data.v, strict=True):
        cache.store(layer, table, 0, k, v)
    return cache


def rules_of(case: Case, data: Tensors) -> Rules:
    """Mask, scale and sinks of a case."""
    return Rules(case.softmax_scale, case.window, case.sink_tokens, data.sink_logits)


def expected(case: Case, data: Tensors, cache: PagedKv, layer: int = 0) -> list[RowAttention]:
    """The exact result of every row."""
    rules = rules_of(case, data)
    return [
        attend(q, *cache.gather(layer, table, length), rules)
        for q, table, length in zip(data.q, data.tables, case.lengths, strict=True)
    ]


def near_edges(block_size: int) -> st.SearchStrategy[int]:
    """0, 1, around one and two blocks, around the kernels' strips of 64, some hundreds."""
    edges = [0, 1, 2, 63, 64, 65, 127, 128, 129]
    edges += [n * block_size + i for n in (1, 2, 3) for i in (-1, 0, 1)]
    return st.one_of(st.sampled_from(sorted(set(edges))), st.integers(0, 300))


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int]:
    """(window, sink tokens): none; one token; inside, around and beyond the context."""
    window = draw(st.one_of(st.just(0), st.sampled_from([1, 15, 16, 17, 400]), st.integers(1, 130)))
    return window, draw(st.sampled_from([0, 0, 1, 4, 17, 70]))


@st.composite
def cases(draw: st.DrawFn, kv: str) -> Case:
    """Any case of ordinary magnitudes."""
    block_size = draw(st.sampled_from(BLOCK_SIZES))
    window, sink_tokens = draw(windows())
    return Case(
        lengths=tuple(draw(st.lists(near_edges(block_size), min_size=1, max_size=4))),
        kv=kv,
        q_dtype=draw(st.sampled_from(Q_DTYPES)),
        head_dim=draw(st.sampled_from(HEAD_DIMS)),
        block_size=block_size,
        kv_heads=draw(st.integers(1, 2)),
        group=draw(st.sampled_from(GROUPS)),
        softmax_scale=draw(st.sampled_from([0.0, 1e-6, 0.088388, 0.125, 1.0])),
        window=window,
        sink_tokens=sink_tokens,
        has_sink_logits=draw(st.booleans()),
        shares_prefix=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )
