"""KV memory of both tiers: a torch pool that stands for the GPU's, and the C library's cache."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from apexbench.cpu_kernels import KvCache
from apexbench.engine.executors.cpu.rows import slots_of


class GpuPool:
    """K and V by slot: [num_layers][num_slots, num_kv_heads, head_dim].

    NaN until written, so that nobody reads what is not there without being noticed.
    """

    def __init__(
        self,
        num_layers: int,
        num_slots: int,
        num_kv_heads: int,
        head_dim: int,
        block_tokens: int,
        dtype: torch.dtype,
    ) -> None:
        shape = (num_layers, num_slots, num_kv_heads, head_dim)
        self.k = torch.full(shape, torch.nan, dtype=dtype)
        self.v = torch.full(shape, torch.nan, dtype=dtype)
        self.block_tokens = block_tokens

    def layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """K and V of one layer, [num_slots, num_kv_heads, head_dim]."""
        return self.k[layer], self.v[layer]

    def store(self, layer: int, slots: Tensor, k: Tensor, v: Tensor) -> None:
        """Write K and V [n, num_kv_heads, head_dim] at `slots` int64 [n]."""
        self.k[layer].index_copy_(0, slots, k)
        self.v[layer].index_copy_(0, slots, v)

    def tokens(self, layer: int, blocks: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
        """Copies of K and V of a sequence's first `count` tokens."""
        slots = slots_of(blocks, count, self.block_tokens)
        return self.k[layer][slots], self.v[layer][slots]

    def store_tokens(self, layer: int, blocks: Sequence[int], k: Tensor, v: Tensor) -> None:
        """Write K and V of a sequence's first tokens."""
        self.store(layer, slots_of(blocks, len(k), self.block_tokens), k, v)


class HostPool:
    """Tokens of sequences in a KvCache of the C library, from and to torch tensors."""

    def __init__(self, cache: KvCache, dtype: torch.dtype) -> None:
        self.cache = cache
        self._dtype = dtype

    def store(self, layer: int, blocks: Sequence[int], first: int, k: Tensor, v: Tensor) -> None:
        """Write K and V [n, num_kv_heads, head_dim] at positions first.. of a sequence."""
        self.cache.store(layer, _table(blocks), first, k.contiguous(), v.contiguous())

    def tokens(self, layer: int, blocks: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
        """K and V of a sequence's first `count` tokens, as attention sees them."""
        k, v = self.cache.load(layer, _table(blocks), 0, count)
        return torch.from_numpy(k).to(self._dtype), torch.from_numpy(v).to(self._dtype)


def _table(blocks: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.asarray(blocks, np.int32)
