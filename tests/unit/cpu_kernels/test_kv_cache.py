"""The cache: what is stored is read back, both backends write the same bytes, memory in time."""

import gc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.cpu_kernels import ExtentAllocator, Job, KvCache, KvGeometry, Pool
from apexbench.cpu_kernels import memory as kernel_memory
from apexbench.cpu_kernels.geometry import KV_DTYPES, SCALE_DTYPES
from apexbench.cpu_kernels.native import FALLBACK, VARIABLE, Library
from apexbench.errors import InputError, UsageError

SPECIAL = (0.0, -0.0, 1e-40, -3e-39, 65519.0, 65520.0, -1e30, np.inf, -np.inf, np.nan, 449.0)
BF16_ROUNDING = 2.0**-8


def tokens(rng: np.random.Generator, geometry: KvGeometry, count: int, specials: int) -> Any:
    """Random numbers of all magnitudes, some replaced by what formats end at."""
    shape = (count, geometry.num_kv_heads, geometry.head_dim)
    values = rng.standard_normal(shape) * 2.0 ** rng.integers(-30, 20, (count, 1, 1))
    for _ in range(specials if count else 0):
        where = tuple(rng.integers(0, size) for size in shape)
        values[where] = rng.choice(SPECIAL)
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), seed=st.integers(0, 1 << 30))
def test_both_backends_write_the_same_bytes(
    data: st.DataObject, seed: int, compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = KvGeometry(
        num_layers=2,
        num_blocks=6,
        num_kv_heads=data.draw(st.integers(1, 3)),
        head_dim=16 * data.draw(st.integers(1, 16)),
        block_size=data.draw(st.sampled_from([8, 16, 48, 64, 128])),
        kv_dtype=data.draw(st.sampled_from(KV_DTYPES)),
        scale_dtype=data.draw(st.sampled_from(SCALE_DTYPES)),
    )
    rng = np.random.default_rng(seed)
    first, count = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 60))
    table = ExtentAllocator(6, 2).grow([], 6)[::-1]
    count = min(count, 6 * geometry.block_size - first)
    k, v = (tokens(rng, geometry, max(count, 0), data.draw(st.integers(0, 4))) for _ in "kv")
    dtype = data.draw(st.sampled_from(["fp32", "fp16", "uint16"]))
    if dtype != "fp32":
        with np.errstate(over="ignore"):
            k, v = k.astype(np.float16), v.astype(np.float16)
        k, v = (x.view(np.uint16) if dtype == "uint16" else x for x in (k, v))
        if dtype == "uint16":  # not NaN with a payload: converting keeps no bits of it
            k, v = (np.where((x & 0x7F80) == 0x7F80, x & 0xFF80, x) for x in (k, v))

    results = []
    for environment in (None, FALLBACK):
        with monkeypatch.context() as patch:
            if environment:
                patch.setenv(VARIABLE, environment)
            with KvCache(geometry) as cache:
                cache.store(1, table, first, k, v)
                results.append((cache.memory.copy(), *cache.load(1, table, first, len(k))))
    for fast, slow in zip(*results, strict=True):
        assert fast.tobytes() == slow.tobytes() or np.array_equal(fast, slow, equal_nan=True)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_what_is_stored_is_read_back(kv_dtype: Any, backend: str) -> None:
    geometry = KvGeometry(2, 8, 2, 32, 16, kv_dtype)
    rng = np.random.default_rng(1)
    k, v = (rng.standard_normal((50, 2, 32)).astype(np.float32) for _ in "kv")
    with KvCache(geometry) as cache:
        cache.store(0, [5, 1, 7, 2], 3, k[:20], v[:20])
        cache.store(0, [5, 1, 7, 2], 23, k[20:], v[20:])
        loaded = cache.load(0, [5, 1, 7, 2], 3, 50)
        assert not cache.load(1, [5, 1, 7, 2], 3, 50)[0].any()
    tolerance = {"fp32": 0, "fp16": 2.0**-11, "bf16": BF16_ROUNDING, "int8": 0.02, "fp8": 2.0**-4}
    for found, expected in zip(loaded, (k, v), strict=True):
        limit = tolerance[kv_dtype] * np.maximum(
            np.abs(expected), 1 if kv_dtype == "int8" else 2.0**-6
        )
        assert (np.abs(found - expected) <= limit).all()


ONE = np.zeros((1, 2, 32), np.float16)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda c: c.store(2, [0], 0, ONE, ONE), "layer is 2; expected 0 to 1"),
        (lambda c: c.load(-1, [0], 0, 1), "layer is -1; expected 0 to 1"),
        (
            lambda c: c.store(0, [24], 0, ONE, ONE),
            "block id 24 is not in the cache; expected 0 to 23",
        ),
        (lambda c: c.load(0, [-1], 0, 1), "block id -1 is not in the cache; expected 0 to 23"),
        (lambda c: c.load(0, [0], 16, 1), "block_table has 1 entries; tokens up to 17 need 2"),
        (
            lambda c: c.load(0, [0], -1, 1),
            "first_token is -1 and there are 1 tokens; neither may be negative",
        ),
        (
            lambda c: c.store(0, [0], 0, ONE[:, :1], ONE),
            "k has shape (1, 1, 32); expected (1, 2, 32)",
        ),
        (
            lambda c: c.store(0, [0], 0, ONE, ONE.astype(np.float32)),
            "v has dtype fp32; expected fp16",
        ),
        (
            lambda c: c.store(0, [0], 0, ONE.repeat(2, 0), ONE.repeat(4, 0)[::2]),
            "k and v have different strides from token to token; pass copies",
        ),
    ],
)
def test_what_cannot_be_stored_or_read_is_refused(call: Any, sentence: str, cache: KvCache) -> None:
    before = cache.memory.copy()
    with pytest.raises(UsageError) as caught:
        call(cache)
    assert str(caught.value) == sentence
    assert np.array_equal(cache.memory, before)


def test_ids_beyond_the_tokens_are_not_looked_at(cache: KvCache) -> None:
    cache.store(0, [99, 3, -7], 16, ONE, ONE)
    assert cache.load(0, [99, 3, -7], 16, 1)[0].shape == (1, 2, 32)


def test_a_closed_cache_says_so_and_its_arrays_live_on(backend: str, geometry: KvGeometry) -> None:
    cache = KvCache(geometry)
    memory = cache.memory
    memory[:] = 3
    cache.close()
    cache.close()
    gc.collect()
    assert memory[-1] == 3
    for call in (
        lambda: cache.memory,
        lambda: cache.load(0, [0], 0, 1),
        lambda: Job(cache).prepare([[0]], [1], 2, "fp16", 1.0).bind(ONE, ONE),
    ):
        with pytest.raises(UsageError, match="the cache is closed; make a new one"):
            call()


def test_a_cache_that_would_make_the_machine_swap_is_refused(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    geometry = KvGeometry(2, 1 << 10, 8, 128, 64, "fp16")
    available = 100 << 20
    monkeypatch.setattr(kernel_memory, "available_bytes", lambda library: available)
    with pytest.raises(InputError) as caught:
        KvCache(geometry)
    fitting = int(available * kernel_memory.USABLE_FRACTION) // (2 * geometry.block_bytes)
    assert str(caught.value) == (
        "the KV cache needs 0.50 GiB and this machine can give 0.10 GiB without swapping;"
        f" at most {fitting} blocks would fit"
    )
    assert 0 < fitting < geometry.num_blocks


def test_more_than_there_is_memory_is_refused_for_real(backend: str) -> None:
    with pytest.raises(InputError, match=r"without swapping; at most \d+ blocks would fit"):
        KvCache(KvGeometry(80, 1 << 24, 8, 128, 64, "fp16"))


def test_available_memory_is_known_alike(compiled: Library) -> None:
    fast, slow = kernel_memory.available_bytes(compiled), kernel_memory.available_bytes(None)
    assert fast is not None
    assert slow is not None
    assert 0.5 < fast / slow < 2  # others allocate and free between the two


def test_a_pool_touches_all_of_it(cache: KvCache, pool: Pool) -> None:
    with KvCache(cache.geometry, pool) as touched:
        assert not touched.memory.any()
        touched.memory[:] = 1
        pool.touch(touched.memory)
        assert not touched.memory.any()


def test_memory_is_aligned_and_huge_pages_are_counted(compiled: Library) -> None:
    with KvCache(KvGeometry(1, 64, 8, 128, 64, "fp16")) as cache:
        assert cache.memory.ctypes.data % (2 << 20) == 0
        cache.memory[:] = 0
        fraction = cache.huge_page_fraction
    assert fraction is None or 0 <= fraction <= 1
