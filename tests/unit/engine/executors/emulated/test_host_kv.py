import numpy as np
import pytest

from apexbench.cpu_kernels import Pool
from apexbench.engine.executors.emulated import host_kv
from apexbench.engine.executors.emulated.host_kv import host_kv_room, open_host_kv
from apexbench.engine.models import ModelShape
from apexbench.errors import InputError

MODEL = ModelShape("small", 2, 64, 4, 2, 16, 128, 100, 512, True, "a test")
BLOCK_BYTES = 2 * 2 * 2 * 16 * 64 * 2  # layers, K and V, heads, dimensions, tokens, fp16


def test_whole_blocks_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_kv, "available_bytes", lambda _: 10 * BLOCK_BYTES)
    room = host_kv_room(MODEL, "fp16", 1000)
    assert room.tokens == 9 * 64  # 95 % of what there is
    assert room.bytes_per_token == BLOCK_BYTES // 64
    assert host_kv_room(MODEL, "fp16", 200).tokens == 3 * 64


def test_where_the_system_says_nothing_all_is_taken_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_kv, "available_bytes", lambda _: None)
    assert host_kv_room(MODEL, "fp16", 1 << 40).tokens == 1 << 40


def test_rows_have_blocks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_kv, "available_bytes", lambda _: None)
    room = host_kv_room(MODEL, "fp16", 10 * 64)
    assert [room.rows(tokens) for tokens in (1, 64, 65, 10 * 64, 11 * 64)] == [10, 10, 5, 1, 0]


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_kv, "available_bytes", lambda _: 20 * BLOCK_BYTES)
    with (
        Pool(1, is_pinned=False) as pool,
        pytest.raises(InputError, match=r"1216 tokens would fit \(2 rows of 512\)"),
    ):
        open_host_kv(MODEL, "fp16", 2000, pool, np.random.default_rng(0))


@pytest.mark.parametrize("kv_dtype", ["fp16", "bf16", "int8"])
def test_all_of_the_memory_is_written_with_finite_numbers(kv_dtype) -> None:
    rng = np.random.default_rng(0)
    with (
        Pool(1, is_pinned=False) as pool,
        open_host_kv(MODEL, kv_dtype, 5 * 64, pool, rng) as cache,
    ):
        for layer in range(MODEL.num_layers):
            k, v = cache.load(layer, range(5), 0, 5 * 64)
            assert np.isfinite(k).all()
            assert np.isfinite(v).all()
            assert (np.abs(k).max(axis=(1, 2)) > 0).all()
            assert (np.abs(v).max(axis=(1, 2)) > 0).all()
