"""Paged decode attention in float64, slow and obvious: what every kernel is compared with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.cpu_attention_numbers import (
    FORMATS,
    FP32,
    FloatFormat,
    Floats,
    Quantised,
    quantised,
    rounded,
)

Indices = NDArray[np.int64]

LINE_BYTES = 64
STRIPE_LANES = 32


@dataclass(frozen=True, slots=True)
class KvFormat:
    """How K and V are stored: a float format, or int8 with scales of a float format."""

    name: str
    element: FloatFormat | None
    scale: FloatFormat | None = None

    @property
    def element_bytes(self) -> int:
        """Of one element of K or V."""
        return {"fp32": 4, "fp16": 2, "bf16": 2}.get(self.name, 1)

    @property
    def pack(self) -> int:
        """Elements of the summed dimension that lie together in a lane."""
        return {"bf16": 2, "int8": 4}.get(self.name, 1)

    def held(self, vectors: Floats) -> Floats:
        """What is left of vectors [..., head_dim] once stored."""
        if self.element is None:
            return self.quantised(vectors).values
        return rounded(vectors, self.element)

    def quantised(self, vectors: Floats) -> Quantised:
        """int8 codes and scales of vectors [..., head_dim]."""
        assert self.scale is not None
        return quantised(vectors, self.scale)


def kv_format(name: str) -> KvFormat:
    """By name: fp32, fp16, bf16, fp8, or int8-fp32 and int8-fp16 after their scales."""
    dtype, _, scale = name.partition("-")
    if scale:
        return KvFormat(dtype, None, FORMATS[scale])
    return KvFormat(dtype, FORMATS[dtype])


class PagedKv:
    """K and V as attention sees them: float64 [layer][block][slot][kv_head][head_dim]."""

    def __init__(
        self, form: KvFormat, layers: int, blocks: int, block_size: int, heads: int, dim: int
    ) -> None:
        self.form = form
        self.block_size = block_size
        self.k = np.full((layers, blocks, block_size, heads, dim), np.nan)
        self.v = np.full_like(self.k, np.nan)

    def store(self, layer: int, table: NDArray[np.int32], first: int, k: Floats, v: Floats) -> None:
        """Tokens first, first + 1, ... of the sequence whose blocks are `table`."""
        positions = first + np.arange(len(k))
        blocks, slots = table[positions // self.block_size], positions % self.block_size
        self.k[layer, blocks, slots] = self.form.held(k)
        self.v[layer, blocks, slots] = self.form.held(v)

    def gather(self, layer: int, table: NDArray[np.int32], length: int) -> tuple[Floats, Floats]:
        """The first `length` tokens: K and V, [length][kv_head][head_dim]."""
        positions = np.arange(length)
        blocks, slots = table[positions // self.block_size], positions % self.block_size
        return self.k[layer, blocks, slots], self.v[layer, blocks, slots]


@dataclass(frozen=True, slots=True)
class Rules:
    """What is asked of all rows of a batch; sink_logits [query heads]."""

    softmax_scale: float
    window: int = 0
    sink_tokens: int = 0
    sink_logits: Floats | None = None

    def visible(self, length: int) -> Indices:
        """Positions a row of `length` tokens attends to: its first sinks and its last window."""
        positions = np.arange(length)
        if self.window == 0:
            return positions
        return positions[(positions < self.sink_tokens) | (positions >= length - self.window)]


@dataclass(frozen=True, slots=True)
class RowAttention:
    """One row's result and what its error depends on; K, V of each query head's own KV head."""

    out: Floats  # [heads, head_dim]
    lse: Floats  # [heads]
    weights: Floats  # [heads, tokens]
    scores: Floats  # [heads, tokens]
    q: Floats  # [heads, head_dim]
    k: Floats  # [heads, tokens, head_dim]
    v: Floats  # [heads, tokens, head_dim]
    softmax_scale: float


def attend(q: Floats, k: Floats, v: Floats, rules: Rules) -> RowAttention:
    """Attention of one row: q [heads, dim], k and v [tokens, kv_heads, dim] before the mask."""
    seen = rules.visible(len(k))
    group = len(q) // k.shape[1]
    k, v = (np.repeat(each[seen], group, axis=1).swapaxes(0, 1) for each in (k, v))
    scale = float(np.float32(rules.softmax_scale))
    with np.errstate(invalid="ignore"):
        scores = scale * np.einsum("hd,htd->ht", q, k)
        weights, lse = softmax(scores, rules.sink_logits)
        out = np.einsum("ht,htd->hd", weights, v)
    return RowAttention(out, lse, weights, scores, q, k, v, scale)


def softmax(scores: Floats, sink_logits: Floats | None) -> tuple[Floats, Floats]:
    """Weights and log-sum-exp of scores [heads, tokens] by the stated rules.

    NaN and +inf, and nothing but -inf, make the head NaN (a sink logit counts as a score of a token
    without a value); no token at all gives -inf as the lse, whatever the sink.
    """
    num_heads, num_tokens = scores.shape
    sinks = np.full(num_heads, -np.inf) if sink_logits is None else sink_logits
    if num_tokens == 0:
        return scores, np.full(num_heads, -np.inf)
    largest = np.maximum(scores.max(axis=1), sinks)
    is_lost = ~np.isfinite(largest)
    largest = np.where(is_lost, 0.0, largest)
    terms = np.exp(scores - largest[:, None])
    total = terms.sum(axis=1) + np.exp(sinks - largest)
    total = np.where(is_lost, np.nan, total)
    return terms / total[:, None], largest + np.log(total)


@dataclass(frozen=True, slots=True)
class TileMap:
    """Byte offsets in a tile: of elements [token, dim] and of scales [token] (int8 only)."""

    k: Indices
    v: Indices
    k_scales: Indices
    v_scales: Indices
    num_bytes: int


def tile_map(form: KvFormat, block_size: int, head_dim: int) -> TileMap:
    """[k scales][v scales][K][V], each padded to a line; K with lanes of tokens, V of dims."""
    tokens, dims = np.arange(block_size)[:, None], np.arange(head_dim)[None, :]
    k = striped(tokens, block_size, dims, head_dim, form.pack) * form.element_bytes
    v = striped(dims, head_dim, tokens, block_size, form.pack) * form.element_bytes
    scale_bytes = 0 if form.scale is None else (4 if form.scale is FP32 else 2)
    scales = scale_bytes * np.arange(block_size)
    part = padded(scale_bytes * block_size)
    elements = padded(block_size * head_dim * form.element_bytes)
    return TileMap(
        k + 2 * part, v + 2 * part + elements, scales, scales + part, 2 * part + 2 * elements
    )


def striped(lane: Indices, num_lanes: int, step: Indices, num_steps: int, pack: int) -> Indices:
    """Index of step `step` of lane `lane`.

    Stripes of up to 32 lanes lie one after the other. Within one, a line holds `pack` adjacent
    steps of every lane.
    """
    begin: Indices = lane - lane % STRIPE_LANES
    width = np.minimum(num_lanes - begin, STRIPE_LANES)
    line = step // pack
    index: Indices = begin * num_steps + line * width * pack + (lane - begin) * pack + step % pack
    return index


def padded(num_bytes: int) -> int:
    """Up to whole cache lines."""
    return -(-num_bytes // LINE_BYTES) * LINE_BYTES
