"""Runs cases through the public API on one ISA level, in memory made hostile; judges nothing.

Inputs and outputs are strided views inside arrays of canaries, the cache is filled with a poison
byte before anything is stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from apexbench.cpu_kernels import (
    Job,
    KvCache,
    KvGeometry,
    Pool,
    force_isa,
    is_compiled,
    isa,
    supported_isas,
)
from tests.cpu_attention_cases import KV_FORMATS, Case, Tensors
from tests.cpu_attention_numbers import FORMATS, Floats, decoded, encoded

FALLBACK = "numpy"
LEVELS = ("reference", "avx2", "avx512", "avx512x", "neon", FALLBACK)
each_level = pytest.mark.parametrize("level", LEVELS)
each_kv = pytest.mark.parametrize("kv", KV_FORMATS)

# fp32, bf16 and fp16: NaN, and a huge number or NaN. int8: 255 and 127, their scales likewise.
POISONS = (0xFF, 0x7F)
CANARY = 0x5A
PAD = 25  # elements between rows: odd, so that rows are aligned to their elements only


@contextmanager
def computing_with(level: str) -> Iterator[None]:
    """Caches and jobs made inside use this level; skips where the machine or build has none."""
    with pytest.MonkeyPatch.context() as patch:
        if level == FALLBACK:
            patch.setenv("APEXBENCH_CPU_KERNELS", "fallback")
            yield
            return
        if level not in supported_isas():
            pytest.skip(f"UNPROVEN: this CPU or build has no kernels for {level}")
        before = isa()
        force_isa(level)
        try:
            yield
        finally:
            force_isa(before)


def in_canaries(bits: NDArray[Any]) -> NDArray[Any]:
    """A copy of an array [rows, ...] whose rows lie apart, with canaries before, between, after."""
    rows, size = len(bits), bits[0].size if len(bits) else 0
    around = np.full((rows + 2) * (size + PAD), 0, bits.dtype)
    around.view(np.uint8)[:] = CANARY
    view = around.reshape(rows + 2, size + PAD)[1:-1, :size].reshape(bits.shape)
    view[...] = bits
    assert view.base is not None
    return view


def assert_canaries(view: NDArray[Any]) -> None:
    """Nothing outside the rows was written."""
    around = view
    while isinstance(around.base, np.ndarray):
        around = around.base
    rows, size = len(view), view[0].size if len(view) else 0
    is_outside = np.ones((rows + 2, size + PAD), dtype=bool)
    is_outside[1:-1, :size] = False
    lines = around.reshape(rows + 2, size + PAD)[is_outside]
    assert (lines.view(np.uint8) == CANARY).all(), "wrote outside the rows of the result"


def bits_of(values: Floats, dtype: str) -> NDArray[Any]:
    """Elements as the API takes them: float32, float16, or uint16 for bf16."""
    bits = encoded(values, FORMATS[dtype])
    return bits if dtype == "bf16" else bits.view(np.float16 if dtype == "fp16" else np.float32)


def raw(array: NDArray[Any]) -> NDArray[np.unsignedinteger]:
    """The bits of elements."""
    contiguous = np.ascontiguousarray(array)
    return contiguous.view({2: np.uint16, 4: np.uint32}[array.dtype.itemsize])


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run: out [rows, q_heads, head_dim] and lse [rows, q_heads], as bits and as float64."""

    out_bits: NDArray[np.unsignedinteger]
    lse_bits: NDArray[np.unsignedinteger]
    q_dtype: str

    @property
    def out(self) -> Floats:
        """Decoded."""
        return decoded(self.out_bits, FORMATS[self.q_dtype])

    @property
    def lse(self) -> Floats:
        """Decoded."""
        return decoded(self.lse_bits, FORMATS["fp32"])

    def rows(self, index: Any) -> "Result":
        """Some of the rows, in the order asked for."""
        return Result(self.out_bits[index], self.lse_bits[index], self.q_dtype)

    def assert_same_bits(self, other: "Result") -> None:
        """NaN counts as equal to any NaN."""
        for name, form in (("out", FORMATS[self.q_dtype]), ("lse", FORMATS["fp32"])):
            mine, its = getattr(self, f"{name}_bits"), getattr(other, f"{name}_bits")
            are_nan = np.isnan(decoded(mine, form)) & np.isnan(decoded(its, form))
            differ = (mine != its) & ~are_nan
            assert not differ.any(), (
                f"{name} differs in {int(differ.sum())} of {differ.size} elements, first at"
                f" {tuple(int(i) for i in np.argwhere(differ)[0])}"
            )


def geometry_of(case: Case, num_blocks: int, num_layers: int = 1) -> KvGeometry:
    """The cache's geometry for a case."""
    return KvGeometry(
        num_layers=num_layers,
        num_blocks=num_blocks,
        num_kv_heads=case.kv_heads,
        head_dim=case.head_dim,
        block_size=case.block_size,
        kv_dtype=case.form.name,  # type: ignore[arg-type]
        scale_dtype="fp32" if case.form.scale is None else case.form.scale.name,  # type: ignore[arg-type]
    )


def poisoned(geometry: KvGeometry, poison: int = POISONS[0]) -> KvCache:
    """A cache without tokens, every byte the same."""
    cache = KvCache(geometry)
    cache.memory[:] = poison
    return cache


def fill(cache: KvCache, case: Case, data: Tensors, layer: int = 0, lengths: Any = None) -> KvCache:
    """Store every row's first tokens (all of them unless `lengths` says fewer)."""
    for row, length in enumerate(case.lengths if lengths is None else lengths):
        if not length:
            continue
        k, v = (bits_of(each[row][:length], case.q_dtype) for each in (data.k, data.v))
        cache.store(layer, data.tables[row], 0, k, v)
    return cache


def prepared(cache: KvCache, case: Case, data: Tensors, *, appends: bool = False) -> Job:
    """A job of all rows."""
    return Job(cache).prepare(
        data.tables,
        np.array(case.lengths, np.int32),
        case.q_heads,
        case.q_dtype,  # type: ignore[arg-type]
        case.softmax_scale,
        window=case.window,
        sink_tokens=case.sink_tokens,
        sink_logits=None if data.sink_logits is None else data.sink_logits.astype(np.float32),
        appends=appends,
    )


class Buffers:
    """Tensors of one submission: q, out and lse inside canaries; k_new, v_new when it appends."""

    def __init__(self, case: Case, data: Tensors, *, appends: bool = False) -> None:
        self.case = case
        self.q = in_canaries(bits_of(data.q, case.q_dtype))
        self.out = in_canaries(np.full_like(self.q, 1))
        self.lse = in_canaries(np.full(self.q.shape[:2], 7, np.float32))
        self.new: dict[str, NDArray[Any]] = {}
        if appends:
            k, v = (np.stack([row[-1] for row in each]) for each in (data.k, data.v))
            self.new = {
                "k_new": in_canaries(bits_of(k, case.q_dtype)),
                "v_new": in_canaries(bits_of(v, case.q_dtype)),
            }

    def arguments(self) -> dict[str, Any]:
        """For Job.run_inline and Pool.submit."""
        return {"q": self.q, "out": self.out, "lse": self.lse, **self.new}

    def result(self) -> Result:
        """What was written, once nothing else was."""
        assert_canaries(self.out)
        assert_canaries(self.lse)
        return Result(raw(self.out), raw(self.lse), self.case.q_dtype)


def attended(
    cache: KvCache,
    case: Case,
    data: Tensors,
    *,
    layer: int = 0,
    pool: Pool | None = None,
    appends: bool = False,
) -> Result:
    """One job on a filled cache, on the calling thread or on a pool."""
    job = prepared(cache, case, data, appends=appends)
    buffers = Buffers(case, data, appends=appends)
    if pool is None:
        job.run_inline(layer, **buffers.arguments())
    else:
        pool.run(job, layer, **buffers.arguments())
    return buffers.result()


@lru_cache(maxsize=32)
def kept_cache(geometry: KvGeometry, is_compiled: bool) -> KvCache:
    """One for all cases of a geometry: mapping memory takes longer than most cases."""
    cache = KvCache(geometry)
    assert (cache.library is not None) == is_compiled
    return cache


def run(case: Case, data: Tensors, *, poison: int = POISONS[0], pool: Pool | None = None) -> Result:
    """Store all rows in a cache without anything else and attend to them."""
    cache = kept_cache(geometry_of(case, data.num_blocks), is_compiled())
    cache.memory[:] = poison
    return attended(fill(cache, case, data), case, data, pool=pool)
