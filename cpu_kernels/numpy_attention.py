"""Decode attention in NumPy float32: what the fallback computes with; the slow twin of csrc/.

out[r, h] = sum_t softmax_t(scale q[r, h] . k[t]) v[t] over the visible tokens t of row r.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels import tiles
from apexbench.cpu_kernels.batch import Batch
from apexbench.cpu_kernels.geometry import KvGeometry
from apexbench.cpu_kernels.numbers import Float32, narrow, widen


@dataclass(frozen=True, slots=True)
class Tensors:
    """NumPy arrays of one call, elements as in memory (bf16 as uint16).

    q, out: [rows, query heads, head_dim]; k_new, v_new: [rows, KV heads, head_dim] or None;
    lse: float32 [rows, query heads] or None.
    """

    q: NDArray[Any]
    out: NDArray[Any]
    k_new: NDArray[Any] | None = None
    v_new: NDArray[Any] | None = None
    lse: NDArray[Any] | None = None


def attend(geometry: KvGeometry, layer: NDArray[np.uint8], batch: Batch, tensors: Tensors) -> None:
    """Append where the batch asks for it, then attend; writes `out` and `lse`.

    layer: the bytes of one layer. Block ids and arrays were checked.
    """
    if batch.appends:
        _append(geometry, layer, batch, tensors)
    for row in range(batch.num_rows):
        out, lse = _attend_row(geometry, layer, batch, row, tensors.q[row])
        tensors.out[row] = narrow(out, batch.q_dtype)
        if tensors.lse is not None:
            tensors.lse[row] = lse


def _append(geometry: KvGeometry, layer: NDArray[np.uint8], batch: Batch, tensors: Tensors) -> None:
    assert tensors.k_new is not None
    assert tensors.v_new is not None
    last = batch.context_lens.astype(np.intp) - 1
    rows = np.arange(batch.num_rows)
    blocks = batch.block_tables[rows, last // geometry.block_size].astype(np.intp)
    k, v = (widen(new, batch.q_dtype) for new in (tensors.k_new, tensors.v_new))
    tiles.write_tokens(geometry, layer, (blocks, last % geometry.block_size), k, v)


def visible_tokens(context_len: int, window: int, sink_tokens: int) -> tiles.Indices:
    """Positions a row attends to, ascending: its sinks and its window, or all."""
    positions = np.arange(context_len, dtype=np.intp)
    if not window:
        return positions
    return positions[(positions < sink_tokens) | (positions >= context_len - window)]


def _attend_row(
    geometry: KvGeometry, layer: NDArray[np.uint8], batch: Batch, row: int, q: NDArray[Any]
) -> tuple[Float32, Float32]:
    """out [query heads, head_dim] and lse [query heads] of one row, float32."""
    context_len = int(batch.context_lens[row])
    positions = visible_tokens(context_len, batch.window, batch.sink_tokens)
    if not positions.size:
        shape = (batch.num_q_heads, geometry.head_dim)
        return np.zeros(shape, np.float32), np.full(batch.num_q_heads, -np.inf, np.float32)
    k, v = tiles.read_tokens(geometry, layer, batch.block_tables[row], positions)
    group = batch.num_q_heads // geometry.num_kv_heads
    heads = widen(q, batch.q_dtype).reshape(geometry.num_kv_heads, group, geometry.head_dim)
    with np.errstate(all="ignore"):  # what is not finite has its rule: see _softmax
        scores = np.float32(batch.softmax_scale) * (heads @ k.transpose(1, 2, 0))
        weights, lse = _softmax(scores.reshape(batch.num_q_heads, -1), batch.sink_logits)
        out = weights.reshape(scores.shape) @ v.transpose(1, 0, 2)
    return out.reshape(batch.num_q_heads, geometry.head_dim), lse


def _softmax(scores: Float32, sink_logits: Float32 | None) -> tuple[Float32, Float32]:
    """Weights and log-sum-exp of each row of scores [query heads, tokens].

    A score of NaN or +inf makes the whole head NaN; so do scores that are all -inf without a sink.
    """
    largest = scores.max(axis=1)
    if sink_logits is not None:
        largest = np.maximum(largest, sink_logits)
    largest = np.where(np.isinf(largest), np.float32(np.nan), largest)
    powers = np.exp(scores - largest[:, None])
    total = powers.sum(axis=1)
    if sink_logits is not None:
        total = total + np.exp(sink_logits - largest)
    return powers / total[:, None], largest + np.log(total)
