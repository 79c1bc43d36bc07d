"""Reference attention over a paged KV pool in torch, in fp32 whatever the pool holds. Not fast.

A pool is two tensors [slots, kv_heads, dim]; token t of a sequence lies in the slot that the caller
names, so blocks of any size are only an arithmetic of slots. It shares nothing with the CPU tier's
kernel: the two must agree because both are right.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


@torch.inference_mode()
def store(pool: Tensor, slots: Tensor, rows: Tensor) -> None:
    """Writes K or V of n tokens [n, kv_heads, dim] to their slots int64 [n], converting dtypes."""
    pool.index_copy_(0, slots, rows.to(pool.dtype))


class PagedAttention:
    """Scaled dot-product attention (arXiv 1706.03762) with grouped heads and windows.

    Keeps two buffers as long as the longest sequence seen, so one object serves one thread.
    """

    def __init__(self, softmax_scale: float) -> None:
        self._scale = softmax_scale
        self._gathered = torch.empty(0)
        self._keys = torch.empty(0)
        self._values = torch.empty(0)

    @torch.inference_mode()
    def decode(
        self,
        q: Tensor,
        pools: tuple[Tensor, Tensor],
        slots: Tensor,
        lengths: Sequence[int],
        window: int = 0,
    ) -> Tensor:
        """Attention [rows, heads * dim] of one new token per sequence.

        q [rows, heads, dim]; slots int64 [rows, max_len], of which row r uses the first lengths[r],
        its new token's included; window: how many of the last tokens are seen, 0 for all.
        """
        attended = torch.empty_like(q, memory_format=torch.contiguous_format)
        for row, length in enumerate(lengths):
            first = max(0, length - window) if window else 0
            keys, values = self._gather(pools, slots[row, first:length])
            grouped = q[row].float().view(1, keys.shape[1], -1, q.shape[-1])
            heads = functional.scaled_dot_product_attention(
                grouped, keys, values, scale=self._scale
            )
            attended[row] = heads.view(q.shape[1:])
        return attended.flatten(1)

    @torch.inference_mode()
    def prefill(
        self, q: Tensor, pools: tuple[Tensor, Tensor], slots: Tensor, window: int = 0
    ) -> Tensor:
        """Attention [n, heads * dim] of the last n tokens of one sequence, causally.

        q [n, heads, dim]; slots int64 [context + n], the new tokens' already stored; window as in
        `decode`.
        """
        context = slots.shape[0] - q.shape[0]
        first = max(0, context - window + 1) if window else 0
        keys, values = self._gather(pools, slots[first:])
        heads = functional.scaled_dot_product_attention(
            q.float().transpose(0, 1)[None],
            keys,
            values,
            attn_mask=_visible(context - first, q.shape[0], window).to(q.device),
            scale=self._scale,
            enable_gqa=True,
        )
        return heads[0].transpose(0, 1).flatten(1).to(q.dtype)

    def _gather(self, pools: tuple[Tensor, Tensor], slots: Tensor) -> tuple[Tensor, Tensor]:
        """K and V of some slots as fp32 [1, kv_heads, tokens, dim]."""
        self._reserve(pools[0], slots.shape[0])
        keys, values = (
            self._read(pool, slots, target[: slots.shape[0]]).transpose(0, 1)[None]
            for pool, target in zip(pools, (self._keys, self._values), strict=True)
        )
        return keys, values

    def _read(self, pool: Tensor, slots: Tensor, target: Tensor) -> Tensor:
        if pool.dtype == target.dtype:
            return torch.index_select(pool, 0, slots, out=target)
        gathered = torch.index_select(pool, 0, slots, out=self._gathered[: slots.shape[0]])
        return target.copy_(gathered)

    def _reserve(self, pool: Tensor, tokens: int) -> None:
        """Buffers for so many tokens: fresh memory for every row would cost more than reading."""
        if self._keys.shape[0] >= tokens and self._gathered.dtype == pool.dtype:
            return
        shape = (max(tokens, 2 * self._keys.shape[0]), *pool.shape[1:])
        self._gathered = pool.new_empty(shape)
        self._keys = pool.new_empty(shape, dtype=torch.float32)
        self._values = torch.empty_like(self._keys)


def _visible(context: int, new: int, window: int) -> Tensor:
    """bool [new, context + new]: which tokens each new one sees."""
    own = torch.arange(context, context + new)[:, None]
    others = torch.arange(context + new)[None]
    visible = others <= own
    return visible & (others > own - window) if window else visible
