"""What store, load and append of every ISA level put into the cache, byte for byte."""

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from apexbench.cpu_kernels import KvCache
from tests.cpu_attention_cases import BLOCK_SIZES, Q_DTYPES, Case, tensors
from tests.cpu_attention_numbers import FORMATS, Floats, decoded, encoded, fp8_values, rounded
from tests.cpu_attention_reference import KvFormat, kv_format, tile_map
from tests.cpu_attention_runs import (
    POISONS,
    bits_of,
    computing_with,
    each_kv,
    each_level,
    fill,
    geometry_of,
    poisoned,
    raw,
)

HEAD_DIM, BLOCK_SIZE = 64, 16


@lru_cache(maxsize=60)  # levels run the same cases one after the other
def expected_memory(case: Case) -> Any:
    """The bytes of one layer that holds the case's one row; poison everywhere else."""
    tile, data = tile_map(case.form, case.block_size, case.head_dim), tensors(case)
    layer = np.full((data.num_blocks, case.kv_heads, tile.num_bytes), POISONS[0], np.uint8)
    parts = ((data.k[0], tile.k, tile.k_scales), (data.v[0], tile.v, tile.v_scales))
    for vectors, elements, scales in parts:
        for token, heads in enumerate(vectors):
            block, slot = data.tables[0][token // case.block_size], token % case.block_size
            for head, vector in enumerate(heads):
                write(layer[block, head], elements[slot], scales[slot], vector, case.form)
    return layer.reshape(-1)


def write(
    tile: NDArray[np.uint8], offsets: NDArray[np.int64], scale: int, vector: Floats, form: KvFormat
) -> None:
    """One vector into its places in a tile."""
    if form.element is not None:
        bits = encoded(rounded(vector, form.element), form.element)
    else:
        quantised = form.quantised(vector[None])
        bits = quantised.codes[0]
        assert form.scale is not None
        scale_bytes = encoded(quantised.scales, form.scale).view(np.uint8)
        tile[scale : scale + scale_bytes.size] = scale_bytes
    parts = bits.view(np.uint8).reshape(len(vector), -1)
    tile[offsets[:, None] + np.arange(parts.shape[1])] = parts


@each_level
@each_kv
def test_every_byte_lies_where_the_layout_says(level: str, kv: str) -> None:
    shapes = [(size, dim) for size in (*BLOCK_SIZES, 112) for dim in (48, 80, 256)]
    with computing_with(level):
        for number, (block_size, head_dim) in enumerate(shapes):
            case = Case((block_size + 5,), kv, Q_DTYPES[number % 3], head_dim, block_size, 2)
            data = tensors(case)
            with fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as cache:
                np.testing.assert_array_equal(cache.memory, expected_memory(case))


def stored(level: str, kv: str, bits: NDArray[Any]) -> tuple[Floats, Floats]:
    """What is loaded after vectors [tokens, HEAD_DIM] were stored, as K and in reverse as V."""
    num_tokens = len(bits)
    table = np.arange(-(-num_tokens // BLOCK_SIZE), dtype=np.int32)[::-1].copy()
    case = Case((num_tokens,), kv, head_dim=HEAD_DIM, block_size=BLOCK_SIZE)
    with computing_with(level), poisoned(geometry_of(case, len(table))) as cache:
        cache.store(0, table, 0, bits[:, None, :], np.ascontiguousarray(bits[::-1, None, :]))
        k, v = cache.load(0, table, 0, num_tokens)
    fp32 = FORMATS["fp32"]
    return decoded(raw(k[:, 0]), fp32), decoded(raw(v[::-1, 0]), fp32)


def assert_stored(level: str, kv: str, bits: NDArray[Any], values: Floats) -> None:
    """Both K and V hold the reference's values, NaN for NaN, zeros with their sign."""
    form = kv_format(kv)
    exact = form.held(values).astype(np.float32).astype(np.float64)  # int8: rounded when loaded
    for loaded in stored(level, kv, bits):
        np.testing.assert_array_equal(loaded, exact)
        if form.element is not None:
            is_number = ~np.isnan(exact)
            np.testing.assert_array_equal(
                np.signbit(loaded)[is_number], np.signbit(exact)[is_number]
            )


@each_level
@pytest.mark.parametrize("kv_dtype", ["fp32", "fp16", "bf16", "fp8"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_all_16_bit_patterns(level: str, kv_dtype: str, dtype: str) -> None:
    """Denormal numbers, infinities and NaN included, into every float format."""
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(-1, HEAD_DIM)
    values = decoded(bits, FORMATS[dtype])
    array = bits if dtype == "bf16" else bits.view(np.float16)
    with np.errstate(over="ignore"):
        assert_stored(level, kv_dtype, array, values)


def around_ties(exact: Floats) -> NDArray[np.float32]:
    """Numbers of a narrow format, the middles between neighbours, and fp32's next on both sides."""
    exact = np.unique(exact[np.isfinite(exact)])
    middles = ((exact[1:] + exact[:-1]) / 2).astype(np.float32)
    most = np.finfo(np.float32).max
    edges = np.array([0, np.inf, -np.inf, np.nan, most, -most, 1e-45, -1e-45], np.float32)
    sides = [np.nextafter(middles, np.float32(to)) for to in (-np.inf, np.inf)]
    every = np.concatenate([exact.astype(np.float32), middles, *sides, edges])
    return np.resize(every, (-(-every.size // HEAD_DIM), HEAD_DIM))


@each_level
def test_ties_go_to_even(level: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    beyond = np.array([448.0, 464.0, 480.0, 1e9])
    exact = {
        "fp8": np.concatenate([fp8_values(), beyond, -beyond]),
        "fp16": np.concatenate([decoded(every, FORMATS["fp16"]), [65536.0, -65536.0]]),
        "bf16": decoded(every, FORMATS["bf16"]),
    }
    for name, values in exact.items():
        numbers = around_ties(values)
        assert_stored(level, name, numbers, numbers.astype(np.float64))


INT8_VECTORS = {
    "normal": 1.0,
    "large": 1e30,
    "small": 1e-30,
    "denormal scale": 1e-37,
    "denormal": 1e-41,
    "nothing left": 1e-45,
    "zero": 0.0,
    "about fp16's smallest scale": 4e-6,
    "denormal in fp16": 1e-3,
    "beyond fp16's largest scale": 9e6,
}


@each_level
@pytest.mark.parametrize("scale_dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("name", INT8_VECTORS)
def test_int8_codes_and_scales(level: str, scale_dtype: str, name: str) -> None:
    rng = np.random.default_rng(len(name))
    vectors = (INT8_VECTORS[name] * rng.standard_normal((40, HEAD_DIM))).astype(np.float32)
    vectors[5] = np.abs(vectors[5]).max()  # all at the edge
    vectors[6] = 0.0
    vectors[7, 1:] = 0.0
    assert_stored(level, f"int8-{scale_dtype}", vectors, vectors.astype(np.float64))


@each_level
@pytest.mark.parametrize("scale_dtype", ["fp32", "fp16"])
def test_int8_ties_go_to_even(level: str, scale_dtype: str) -> None:
    """A scale of exactly 2: odd integers lie half way between two codes."""
    vectors = np.zeros((8, HEAD_DIM), np.float32)
    vectors[:] = np.arange(-HEAD_DIM // 2, HEAD_DIM // 2) + 64 * np.arange(-4, 4)[:, None]
    vectors[:, 0] = 254.0
    assert_stored(level, f"int8-{scale_dtype}", vectors, vectors.astype(np.float64))


@each_level
@pytest.mark.parametrize("scale_dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_int8_vectors_that_are_not_finite_are_nan(
    level: str, scale_dtype: str, value: float
) -> None:
    """The whole vector, and none of its neighbours."""
    vectors = np.ones((20, HEAD_DIM), np.float32)
    vectors[3, 0] = vectors[19, -1] = value
    for loaded in stored(level, f"int8-{scale_dtype}", vectors):
        is_lost = np.isnan(loaded).all(axis=1)
        np.testing.assert_array_equal(np.flatnonzero(is_lost), [3, 19])
        np.testing.assert_allclose(loaded[~is_lost], 1.0, rtol=1e-3)


@each_level
@each_kv
def test_step_by_step_equals_one_store(level: str, kv: str) -> None:
    """Token by token, in uneven runs, from strided arrays, or at once: the same bytes."""
    case = Case((53,), kv, "bf16", block_size=16, kv_heads=2)
    data = tensors(case)
    table = data.tables[0]
    k, v = bits_of(data.k[0], "bf16"), bits_of(data.v[0], "bf16")
    wide = np.full((53, 3, 2, 64), 0x7FC0, np.uint16)
    wide[:, 0], wide[:, 2] = k, v
    geometry = geometry_of(case, data.num_blocks)
    with computing_with(level), fill(poisoned(geometry), case, data) as once:
        for edges in (range(54), (0, 1, 15, 16, 17, 48, 53), (0, 53)):
            with poisoned(geometry) as cache:
                for first, last in pairwise(edges):
                    cache.store(0, table, first, wide[first:last, 0], wide[first:last, 2])
                np.testing.assert_array_equal(cache.memory, once.memory)


@each_level
def test_storing_no_tokens_changes_nothing(level: str) -> None:
    case = Case((16,))
    data = tensors(case)
    with computing_with(level), poisoned(geometry_of(case, data.num_blocks)) as cache:
        empty = np.empty((0, 1, 64), np.float32)
        cache.store(0, data.tables[0], 0, empty, empty.copy().view())
        cache.store(0, data.tables[0], 16, np.ones((2, 1, 64), np.float32)[:0], empty)
        assert (cache.memory == POISONS[0]).all()


@each_level
def test_a_layer_keeps_to_itself(level: str) -> None:
    """Bytes of other layers stay as they were."""
    case = Case((40,), "int8-fp16")
    data = tensors(case)
    geometry = geometry_of(case, data.num_blocks, num_layers=3)
    with computing_with(level), fill(poisoned(geometry), case, data, layer=1) as cache:
        layers = cache.memory.reshape(3, -1)
        assert (layers[[0, 2]] == POISONS[0]).all()
        with fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as alone:
            np.testing.assert_array_equal(layers[1], alone.memory)


@each_level
@each_kv
def test_load_is_what_attention_sees(level: str, kv: str) -> None:
    """Any run of tokens of any row, in float32, as the reference holds them."""
    case = replace(Case((70, 3), kv), block_size=32, kv_heads=3, head_dim=80)
    data = tensors(case)
    with (
        computing_with(level),
        fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as cache,
    ):
        for first, count in ((0, 70), (31, 2), (69, 1), (5, 0)):
            check_load(cache, case, data.tables[0], data, first, count)


def check_load(
    cache: KvCache, case: Case, table: NDArray[np.int32], data: Any, first: int, count: int
) -> None:
    """Tokens first.. of row 0."""
    k, v = cache.load(0, table, first, count)
    assert k.dtype == v.dtype == np.float32
    for loaded, vectors in ((k, data.k[0]), (v, data.v[0])):
        exact = case.form.held(vectors[first : first + count]).astype(np.float32)
        np.testing.assert_array_equal(loaded, exact)
