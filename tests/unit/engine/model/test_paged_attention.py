"""The GPU tier's reference attention against a sum written out token by token in NumPy."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apexbench.engine.model.attention import PagedAttention, store

Array = npt.NDArray[np.float64]
SLOTS = 160
SCALE = 0.3
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def one_row(q: Array, keys: Array, values: Array, seen: range) -> Array:
    """Attention [heads, dim] of one token by the definition, in fp64."""
    group = q.shape[0] // keys.shape[1]
    out = np.zeros_like(q)
    for head in range(q.shape[0]):
        scores = np.array([SCALE * q[head] @ keys[token, head // group] for token in seen])
        weights = np.exp(scores - scores.max())
        weights /= weights.sum()
        for weight, token in zip(weights, seen, strict=True):
            out[head] += weight * values[token, head // group]
    return out


class Pool:
    """K and V of sequences in shuffled slots; slots nobody wrote hold NaN."""

    def __init__(self, heads: tuple[int, int], dim: int, dtype: torch.dtype, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.heads, self.dim, self.dtype = heads, dim, dtype
        self.free = torch.randperm(SLOTS, generator=self.generator).tolist()
        size = (SLOTS, heads[1], dim)
        self.pools = (torch.full(size, np.nan, dtype=dtype), torch.full(size, np.nan, dtype=dtype))

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(self.dtype)

    def add(self, length: int) -> Tensor:
        slots = torch.tensor([self.free.pop() for _ in range(length)])
        for pool in self.pools:
            store(pool, slots, self.random(length, self.heads[1], self.dim))
        return slots

    def stored(self, slots: Tensor) -> tuple[Array, Array]:
        keys, values = (pool[slots].double().numpy() for pool in self.pools)
        return keys, values


def seen_by(position: int, window: int) -> range:
    return range(max(0, position + 1 - window) if window else 0, position + 1)


HEADS = st.sampled_from([(1, 1), (4, 4), (6, 2), (8, 1)])
WINDOWS = st.sampled_from([0, 1, 2, 7, 100])
DTYPES = st.sampled_from(list(ROUNDING))


@settings(max_examples=40, deadline=None)
@given(
    heads=HEADS,
    dim=st.sampled_from([2, 8, 20]),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    window=WINDOWS,
    dtype=DTYPES,
    seed=st.integers(0, 999),
)
def test_decode_rows(
    heads: tuple[int, int], dim: int, lengths: list[int], window: int, dtype: torch.dtype, seed: int
) -> None:
    pool = Pool(heads, dim, dtype, seed)
    slots = [pool.add(length) for length in lengths]
    # what pads a row must never be read
    padded = torch.nn.utils.rnn.pad_sequence(slots, batch_first=True, padding_value=-1)
    q = pool.random(len(lengths), heads[0], dim)
    attention = PagedAttention(SCALE)
    found = attention.decode(q, pool.pools, padded, lengths, window)
    assert (tuple(found.shape), found.dtype) == ((len(lengths), heads[0] * dim), dtype)
    for row, length in enumerate(lengths):
        keys, values = pool.stored(slots[row])
        expected = one_row(q[row].double().numpy(), keys, values, seen_by(length - 1, window))
        own = found[row].double().numpy()
        assert np.abs(own - expected.ravel()).max() < ROUNDING[dtype]


@settings(max_examples=40, deadline=None)
@given(
    heads=HEADS,
    context=st.integers(0, 30),
    new=st.integers(1, 20),
    window=WINDOWS,
    dtype=DTYPES,
    seed=st.integers(0, 999),
)
def test_prefill_chunks(
    heads: tuple[int, int], context: int, new: int, window: int, dtype: torch.dtype, seed: int
) -> None:
    pool = Pool(heads, 8, dtype, seed)
    slots = pool.add(context + new)
    q = pool.random(new, heads[0], 8)
    found = PagedAttention(SCALE).prefill(q, pool.pools, slots, window)
    assert (tuple(found.shape), found.dtype) == ((new, heads[0] * 8), dtype)
    keys, values = pool.stored(slots)
    for row in range(new):
        seen = seen_by(context + row, window)
        expected = one_row(q[row].double().numpy(), keys, values, seen).ravel()
        assert np.abs(found[row].double().numpy() - expected).max() < ROUNDING[dtype]


def test_one_object_serves_growing_and_shrinking_sequences_and_pools() -> None:
    shared = PagedAttention(SCALE)
    full, half = torch.float32, torch.bfloat16
    for length, dtype in ((3, full), (40, full), (5, half), (9, full)):
        pool = Pool((4, 2), 8, dtype, seed=length)
        slots = pool.add(length)[None]
        q = pool.random(1, 4, 8)
        fresh = PagedAttention(SCALE).decode(q, pool.pools, slots, [length])
        assert torch.equal(shared.decode(q, pool.pools, slots, [length]), fresh)


def test_queries_may_be_views_of_wider_rows() -> None:
    pool = Pool((4, 2), 8, torch.float32, seed=0)
    slots = torch.stack([pool.add(5), pool.add(5)])
    wide = pool.random(2, 6, 8)
    view, copy = wide[:, :4], wide[:, :4].clone()
    first = PagedAttention(SCALE).decode(view, pool.pools, slots, [5, 5])
    assert torch.equal(first, PagedAttention(SCALE).decode(copy, pool.pools, slots, [5, 5]))


def test_softmax_is_fp32_for_scores_that_fp16_could_not_hold() -> None:
    pool = Pool((1, 1), 8, torch.float16, seed=0)
    slots = pool.add(3)
    pool.pools[0][slots] = torch.tensor([300.0, 299.0, 10.0], dtype=torch.float16)[:, None, None]
    q = torch.full((1, 1, 8), 300.0, dtype=torch.float16)  # scores near 216 000
    found = PagedAttention(SCALE).decode(q, pool.pools, slots[None], [3])
    assert torch.equal(found[0], pool.pools[1][slots[0], 0])


@pytest.mark.parametrize("dtype", list(ROUNDING))
def test_store_converts_and_keeps_other_slots(dtype: torch.dtype) -> None:
    pool = torch.zeros(6, 2, 4, dtype=dtype)
    rows = torch.randn(2, 3, 4)[:, :2]  # not contiguous
    store(pool, torch.tensor([4, 1]), rows)
    assert torch.equal(pool[[4, 1]], rows.to(dtype))
    assert not pool[[0, 2, 3, 5]].any()
