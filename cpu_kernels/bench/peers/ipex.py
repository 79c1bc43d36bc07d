"""Paged attention of the Intel extension for PyTorch, in blocks of 16 and of 128 tokens."""

from typing import Any, ClassVar

import numpy as np

from apexbench.cpu_kernels.bench.peers.case import PeerCase
from apexbench.cpu_kernels.bench.peers.paged import shuffled_paging, spread_blocks
from apexbench.cpu_kernels.bench.peers.torch_modules import (
    import_late,
    import_torch,
    tensor,
    to_numpy,
)
from apexbench.cpu_kernels.numbers import Float32


class Ipex:
    """single_query_cached_kv_attention on caches of [block, KV head, slot, head_dim]."""

    block_size: ClassVar[int] = 128

    def __init__(self, case: PeerCase) -> None:
        self._torch = torch = import_torch()
        self.version = str(import_late("intel_extension_for_pytorch").__version__)
        self._ops = torch.ops.torch_ipex
        self._case = case
        self._paging = shuffled_paging(case, self.block_size)
        self._q = tensor(torch, case, case.elements(case.q))
        self._out = torch.empty_like(self._q)
        self._caches = [self._cache(values) for values in (case.k, case.v)]
        self._prepare()

    def _cache(self, values: Float32) -> Any:
        """[regions, blocks, KV heads, slots, head_dim], every row with the case's values."""
        case, shape = self._case, self._case.shape
        memory = case.allocate(case.num_regions * case.kv_bytes // 2)
        sizes = (shape.num_kv_heads, self.block_size, shape.head_dim)
        blocks = (case.num_regions, self._paging.num_blocks, *sizes)
        cache = tensor(self._torch, case, memory.view(np.uint16).reshape(blocks))
        tokens = tensor(self._torch, case, case.elements(values))
        row = tokens.reshape(-1, self.block_size, *tokens.shape[1:]).transpose(1, 2)
        spread_blocks(cache, row, self._paging)
        return cache

    def _prepare(self) -> None:
        torch, shape = self._torch, self._case.shape
        self._lengths = torch.full((shape.batch,), shape.context, dtype=torch.int32)
        self._table = torch.from_numpy(self._paging.table)
        heads = torch.arange(shape.num_kv_heads, dtype=torch.int32)
        self._heads = heads.repeat_interleave(shape.gqa_group)

    def run(self, region: int) -> None:
        """One call."""
        shape = self._case.shape
        k, v = (cache[region] for cache in self._caches)
        with self._torch.inference_mode():
            self._ops.single_query_cached_kv_attention(
                *(self._out, self._q, k, v, self._heads, shape.head_dim**-0.5),
                *(self._table, self._lengths, self.block_size, shape.context),
                *(None, -1, 1.0, 1.0, -1.0),
            )

    def output(self) -> Float32:
        """Of the last call."""
        return to_numpy(self._out)


class IpexSmallBlocks(Ipex):
    """The same in blocks of 16."""

    block_size: ClassVar[int] = 16
