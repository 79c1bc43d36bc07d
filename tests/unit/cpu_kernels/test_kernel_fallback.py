"""Attention in NumPy against the library's reference level, and what users are told of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.cpu_kernels import (
    Job,
    KvCache,
    KvGeometry,
    Pool,
    fallback_notice,
    force_isa,
    is_compiled,
    isa,
    supported_isas,
)
from apexbench.cpu_kernels.geometry import KV_DTYPES
from apexbench.cpu_kernels.native import FALLBACK, VARIABLE, Library
from apexbench.errors import UsageError

# int8: the reference writes q and weights with 14 bits; the others differ in the order of sums.
TOLERANCE = {"int8": 2e-3} | dict.fromkeys(("fp32", "fp16", "bf16", "fp8"), 2e-5)
NUM_BLOCKS = 12


@dataclass(frozen=True)
class Case:
    """A batch on a cache filled with random numbers."""

    geometry: KvGeometry
    group: int
    lens: list[int]
    options: dict[str, Any]
    seed: int

    def run(self) -> tuple[Any, Any, Any]:
        """out, lse and the bytes of the cache, on whatever backend is in use."""
        rng = np.random.default_rng(self.seed)
        rows, heads, dim = len(self.lens), self.geometry.num_kv_heads, self.geometry.head_dim
        tables = rng.permutation(NUM_BLOCKS).reshape(3, 4)[:rows]
        k, v, q = (
            rng.standard_normal(shape, np.float32)
            for shape in (
                *[(4 * self.geometry.block_size, heads, dim)] * 2,
                (rows, heads * self.group, dim),
            )
        )
        new = rng.standard_normal((2, rows, heads, dim), np.float32)
        with KvCache(self.geometry) as cache, Pool(1, is_pinned=False) as pool:
            for table in tables:
                cache.store(1, table, 0, k, v)
            out, lse = np.full_like(q, np.nan), np.full(q.shape[:2], np.nan, np.float32)
            job = Job(cache).prepare(tables, self.lens, q.shape[1], "fp32", 0.3, **self.options)
            k_new, v_new = new if self.options["appends"] else (None, None)
            pool.run(job, 1, q, out, k_new, v_new, lse)
            return out, lse, cache.memory.copy()


@st.composite
def cases(draw: st.DrawFn) -> Case:
    block_size, heads = draw(st.sampled_from([8, 16, 48, 64])), draw(st.integers(1, 2))
    dtype = draw(st.sampled_from(KV_DTYPES))
    geometry = KvGeometry(2, NUM_BLOCKS, heads, 16 * draw(st.integers(1, 5)), block_size, dtype)
    group = draw(st.integers(1, 4))
    lens = draw(st.lists(st.integers(0, 4 * block_size), min_size=1, max_size=3))
    logits = st.lists(st.floats(-3, 3, width=32), min_size=heads * group, max_size=heads * group)
    options = {
        "window": draw(st.sampled_from([0, 1, 7, 20])),
        "sink_tokens": draw(st.integers(0, 5)),
        "appends": min(lens) > 0 and draw(st.booleans()),
        "sink_logits": draw(st.none() | logits),
    }
    return Case(geometry, group, lens, options, draw(st.integers(0, 1 << 30)))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=cases())
def test_fallback_and_reference_agree(
    case: Case, compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = isa()
    force_isa("reference")
    try:
        expected = case.run()
    finally:
        force_isa(before)
    with monkeypatch.context() as patch:
        patch.setenv(VARIABLE, FALLBACK)
        found = case.run()
    limit = TOLERANCE[case.geometry.kv_dtype]
    for slow, fast in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_allclose(slow, fast, rtol=limit, atol=limit)
    assert np.array_equal(found[2], expected[2])


SPECIAL_KEYS = {"nan": np.nan, "plus": np.inf, "minus": -np.inf, "huge": 3e38}


@pytest.mark.parametrize("kind", SPECIAL_KEYS)
@pytest.mark.parametrize("all_tokens", [False, True])
def test_what_is_not_finite_ends_alike(kind: str, all_tokens: bool, backend: str) -> None:
    geometry = KvGeometry(1, 1, 1, 16, 16, "fp32")
    k, v = np.zeros((3, 1, 16), np.float32), np.ones((3, 1, 16), np.float32)
    k[0 if not all_tokens else slice(None), 0, 3] = SPECIAL_KEYS[kind]
    q = np.ones((1, 2, 16), np.float32)
    q[0, 1] = 0
    q[0, 1, 3] = 1  # the second head: scores without what 0 * inf gives
    out, lse = np.empty_like(q), np.empty((1, 2), np.float32)
    with KvCache(geometry) as cache:
        cache.store(0, [0], 0, k, v)
        Job(cache).prepare([[0]], [3], 2, "fp32", 2.0).run_inline(0, q, out, lse=lse)
    is_finite = kind == "minus" and not all_tokens
    assert np.isfinite(out).all() == is_finite
    assert np.isnan(out).all() == (not is_finite)
    assert np.isnan(lse).all() == (not is_finite)


def test_no_visible_token_gives_zeros_whatever_the_sink(backend: str) -> None:
    geometry = KvGeometry(1, 1, 1, 16, 16)
    out, lse = np.full((1, 2, 16), 7, np.float16), np.full((1, 2), 7, np.float32)
    with KvCache(geometry) as cache:
        job = Job(cache).prepare([[0]], [0], 2, "fp16", 1.0, sink_logits=[5.0, -5.0])
        job.run_inline(0, out.copy(), out, lse=lse)
    assert not out.any()
    assert np.isneginf(lse).all()


def test_the_fallback_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, FALLBACK)
    assert (is_compiled(), isa(), supported_isas()) == (False, "numpy", ("numpy",))
    notice = fallback_notice()
    assert notice is not None
    assert "runs in NumPy, about " in notice
    assert "times slower" in notice
    assert "APEXBENCH_CPU_KERNELS says so" in notice
    with pytest.raises(UsageError, match="has no level 'avx2'; it has numpy"):
        force_isa("avx2")
    with Pool(4) as pool:
        assert (pool.num_threads, pool.cpus) == (1, (-1,))


def test_the_library_needs_no_notice(compiled: Library) -> None:
    assert fallback_notice() is None
    assert isa() in supported_isas()
    assert supported_isas()[0] == "reference"


def test_levels_are_forced_by_name(compiled: Library) -> None:
    before = isa()
    try:
        for name in supported_isas():
            force_isa(name)
            assert isa() == name
    finally:
        force_isa(before)
    with pytest.raises(UsageError, match=r"unknown ISA level 'avx3'; did you mean avx2"):
        force_isa("avx3")
    missing = "neon" if "neon" not in supported_isas() else "avx2"
    with pytest.raises(UsageError, match=f"has no level '{missing}'; it has reference"):
        force_isa(missing)
    assert isa() == before
