"""The KV cache on the host: memory of all layers, tokens in and out; computes no attention."""

import ctypes
import weakref
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels import tiles
from apexbench.cpu_kernels.arrays import dtype_of, elements, integers, view
from apexbench.cpu_kernels.geometry import KvGeometry
from apexbench.cpu_kernels.memory import huge_page_fraction, map_bytes, refuse_swapping
from apexbench.cpu_kernels.native import Library, library
from apexbench.cpu_kernels.numbers import Float32, widen
from apexbench.cpu_kernels.structures import DTYPE_NUMBERS, CacheStruct
from apexbench.errors import UsageError

CLOSED = "the cache is closed; make a new one"


class Toucher(Protocol):
    """What can touch memory first, from the CPUs that will read it: a pool."""

    def touch(self, memory: NDArray[np.uint8]) -> None: ...


class Reader(Protocol):
    """What reads the cache and may be at it: a job."""

    @property
    def is_in_flight(self) -> bool: ...


class KvCache:
    """K and V of all layers in `geometry.total_bytes` of host memory, huge pages where possible.

    pool: touches the memory first, so that pages lie where they will be read; without one they are
    given when they are first written. Raises InputError instead of letting the machine swap.
    `memory` are the bytes, uint8 [total_bytes]: [layer][block][KV head] tiles of csrc/layout.h.
    """

    def __init__(self, geometry: KvGeometry, pool: Toucher | None = None) -> None:
        self.geometry = geometry
        self._library = library()
        block_bytes = geometry.block_bytes * geometry.num_layers
        refuse_swapping(self._library, geometry.total_bytes, block_bytes)
        self._memory: NDArray[np.uint8] | None = map_bytes(self._library, geometry.total_bytes)
        self._readers: weakref.WeakSet[Any] = weakref.WeakSet()
        self.struct = _struct_of(geometry, self._memory)
        if pool is not None:
            pool.touch(self._memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory; it is given back once no array on it is left.

        Raises UsageError while a job that reads it is in flight.
        """
        if any(reader.is_in_flight for reader in self._readers):
            raise UsageError("the cache is read by a job in flight; wait for its ticket first")
        self._memory = None

    @property
    def is_closed(self) -> bool:
        """Whether close() was called."""
        return self._memory is None

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The bytes of all layers, uint8 [total_bytes]; writing into them writes the cache."""
        if self._memory is None:
            raise UsageError(CLOSED)
        return self._memory

    @property
    def huge_page_fraction(self) -> float | None:
        """Share of the memory that huge pages back now, None where the kernel does not say."""
        return huge_page_fraction(self._library, self.memory)

    @property
    def library(self) -> Library | None:
        """What works on this cache: the compiled kernels, or NumPy where it is None."""
        return self._library

    def add_reader(self, reader: Reader) -> None:
        """Refuse to close while `reader` is in flight; it is forgotten when nobody else has it."""
        self._readers.add(reader)

    def layer_memory(self, layer: int) -> NDArray[np.uint8]:
        """The bytes of one layer, uint8 [layer_bytes]. Raises UsageError."""
        self.check_layer(layer)
        size = self.geometry.layer_bytes
        return self.memory[layer * size : (layer + 1) * size]

    def check_layer(self, layer: int) -> None:
        """Raise UsageError unless the cache is open and has such a layer."""
        if self._memory is None:
            raise UsageError(CLOSED)
        if not 0 <= layer < self.geometry.num_layers:
            raise UsageError(f"layer is {layer}; expected 0 to {self.geometry.num_layers - 1}")

    def store(self, layer: int, block_table: Any, first_token: int, k: Any, v: Any) -> None:
        """Write tokens first_token.. of one sequence, converted to kv_dtype.

        k, v: [tokens, num_kv_heads, head_dim], fp32, fp16 or bf16, both the same; rows may lie
        apart. block_table: ids of all the sequence's blocks. Raises UsageError.
        """
        dtype = dtype_of("k", k)
        shape = (k.shape[0] if k.shape else 0, self.geometry.num_kv_heads, self.geometry.head_dim)
        k_view, v_view = view("k", k, shape, dtype), view("v", v, shape, dtype)
        if k_view.row_stride != v_view.row_stride and shape[0] > 1:
            raise UsageError("k and v have different strides from token to token; pass copies")
        table = self._table(layer, block_table, first_token, shape[0])
        memory = self.layer_memory(layer)  # not to be unmapped meanwhile
        if self._library is None:
            numbers = [widen(elements("k or v", x, dtype), dtype) for x in (k, v)]
            slots = tiles.slots_of(self.geometry, table, _positions(first_token, shape[0]))
            tiles.write_tokens(self.geometry, memory, slots, numbers[0], numbers[1])
            return
        where = (layer, table.ctypes.data, first_token, shape[0])
        what = (k_view.address, v_view.address, k_view.row_stride, DTYPE_NUMBERS[dtype])
        self._library.check(
            self._library.slow.apx_store(ctypes.addressof(self.struct), *where, *what)
        )

    def load(
        self, layer: int, block_table: Any, first_token: int, num_tokens: int
    ) -> tuple[Float32, Float32]:
        """What attention sees of tokens first_token..: float32 k and v [tokens, heads, head_dim].

        Raises UsageError.
        """
        table = self._table(layer, block_table, first_token, num_tokens)
        memory = self.layer_memory(layer)  # not to be unmapped meanwhile
        if self._library is None:
            positions = _positions(first_token, num_tokens)
            return tiles.read_tokens(self.geometry, memory, table, positions)
        shape = (num_tokens, self.geometry.num_kv_heads, self.geometry.head_dim)
        k, v = np.empty(shape, np.float32), np.empty(shape, np.float32)
        where = (layer, table.ctypes.data, first_token, num_tokens, k.ctypes.data, v.ctypes.data)
        self._library.check(self._library.slow.apx_load(ctypes.addressof(self.struct), *where))
        return k, v

    def _table(
        self, layer: int, block_table: Any, first_token: int, num_tokens: int
    ) -> NDArray[np.int32]:
        """The block table as int32, once layer, tokens and the ids they need are in range."""
        self.check_layer(layer)
        if first_token < 0 or num_tokens < 0:
            raise UsageError(
                f"first_token is {first_token} and there are {num_tokens} tokens; neither may be"
                " negative"
            )
        table = integers("block_table", block_table, 1)
        end = self.geometry.blocks_of(first_token + num_tokens)
        if end > len(table):
            raise UsageError(
                f"block_table has {len(table)} entries; tokens up to {first_token + num_tokens}"
                f" need {end}"
            )
        check_block_ids(table[first_token // self.geometry.block_size : end], self.geometry)
        return table


def _positions(first_token: int, num_tokens: int) -> tiles.Indices:
    return np.arange(first_token, first_token + num_tokens, dtype=np.intp)


def check_block_ids(ids: NDArray[np.int32], geometry: KvGeometry) -> None:
    """Raise UsageError unless all are blocks of the cache."""
    if not ids.size:
        return
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= geometry.num_blocks:
        wrong = least if least < 0 else most
        raise UsageError(
            f"block id {wrong} is not in the cache; expected 0 to {geometry.num_blocks - 1}"
        )


def _struct_of(geometry: KvGeometry, memory: NDArray[np.uint8]) -> CacheStruct:
    return CacheStruct(
        memory.__array_interface__["data"][0],
        geometry.layer_bytes,
        geometry.num_blocks,
        geometry.num_layers,
        DTYPE_NUMBERS[geometry.kv_dtype],
        DTYPE_NUMBERS[geometry.scale_dtype],
        geometry.block_size,
        geometry.head_dim,
        geometry.num_kv_heads,
    )
