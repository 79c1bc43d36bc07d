"""Decode attention in one call, for those who neither reuse a job nor overlap anything."""

from math import sqrt
from typing import Any

import numpy as np

from apexbench.cpu_kernels.arrays import dtype_of
from apexbench.cpu_kernels.cache import KvCache
from apexbench.cpu_kernels.job import Job
from apexbench.cpu_kernels.pool import Pool


def decode_attention(
    q: Any,
    cache: KvCache,
    layer: int,
    block_tables: Any,
    context_lens: Any,
    *,
    pool: Pool | None = None,
    k_new: Any = None,
    v_new: Any = None,
    softmax_scale: float | None = None,
    window: int = 0,
    sink_tokens: int = 0,
    sink_logits: Any = None,
    out: Any = None,
    lse: Any = None,
) -> Any:
    """Attention of one decode token per sequence over its tokens in `cache`; returns `out`.

    q: [rows, num_q_heads, head_dim], fp32, fp16 or bf16; the result is like it. block_tables: int32
    [rows, entries]; context_lens: int32 [rows]. With k_new and v_new [rows, num_kv_heads, head_dim]
    those are stored at each row's last position first. softmax_scale: 1 / sqrt(head_dim) unless
    given. pool: None computes on the calling thread. Others: see Job.prepare. Raises UsageError.
    """
    head_dim = cache.geometry.head_dim
    job = Job(cache).prepare(
        block_tables,
        context_lens,
        num_q_heads=q.shape[1],
        q_dtype=dtype_of("q", q),
        softmax_scale=1 / sqrt(head_dim) if softmax_scale is None else softmax_scale,
        window=window,
        sink_tokens=sink_tokens,
        sink_logits=sink_logits,
        appends=k_new is not None,
    )
    result = _like(q) if out is None else out
    if pool is None:
        job.run_inline(layer, q, result, k_new, v_new, lse)
    else:
        pool.run(job, layer, q, result, k_new, v_new, lse)
    return result


def _like(q: Any) -> Any:
    """An array of q's shape and dtype in C order, a tensor where q is one."""
    if isinstance(q, np.ndarray):
        return np.empty(q.shape, q.dtype)
    return q.new_empty(q.shape)
