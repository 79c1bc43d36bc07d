"""Tiles of a KV cache in NumPy: tokens written and read where csrc/layout.h says; no attention.

Lanes (tokens of K, dimensions of V) come in stripes of 32; within a stripe, `pack` elements of what
is summed (dimensions of K, tokens of V) stand together in a lane, then the next lane.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.geometry import STRIPE_LANES, KvGeometry
from apexbench.cpu_kernels.numbers import STORED_DTYPES, Float32, narrow, quantise, widen

Indices = NDArray[np.intp]


def write_tokens(
    geometry: KvGeometry,
    layer: NDArray[np.uint8],
    slots: tuple[Indices, Indices],
    k: Float32,
    v: Float32,
) -> None:
    """Convert and store tokens: k and v [tokens, kv heads, head_dim] at (blocks, offsets).

    layer: the bytes of one layer's tiles.
    """
    indices = _indices(geometry.block_size, geometry.head_dim, geometry.pack)
    heads = np.arange(geometry.num_kv_heads, dtype=np.intp)[None, :, None]
    for which, (values, index) in enumerate(zip((k, v), indices, strict=True)):
        if geometry.kv_dtype == "int8":
            elements, scales = quantise(values, geometry.scale_dtype)
            _scales(geometry, layer, which)[slots[0], :, slots[1]] = scales
        else:
            elements = narrow(values, geometry.kv_dtype)
        where = (slots[0][:, None, None], heads, index[slots[1]][:, None, :])
        _elements(geometry, layer, which)[where] = elements


def read_tokens(
    geometry: KvGeometry,
    layer: NDArray[np.uint8],
    block_table: NDArray[np.int32],
    positions: Indices,
) -> tuple[Float32, Float32]:
    """What attention sees of one sequence's tokens: k and v, float32 [tokens, kv heads, head_dim].

    positions: ascending. Whole blocks are taken out of the layout, then the tokens out of them.
    """
    entries, which_entry = np.unique(positions // geometry.block_size, return_inverse=True)
    tokens = which_entry * geometry.block_size + positions % geometry.block_size
    blocks = block_table[entries].astype(np.intp)
    k = _read_blocks(geometry, layer, blocks, which=0)
    v = _read_blocks(geometry, layer, blocks, which=1)
    return k[tokens], v[tokens]


def slots_of(
    geometry: KvGeometry, block_table: NDArray[np.int32], positions: Indices
) -> tuple[Indices, Indices]:
    """Block and offset within it of each token position of one sequence."""
    blocks = block_table[positions // geometry.block_size].astype(np.intp)
    return blocks, positions % geometry.block_size


def _read_blocks(
    geometry: KvGeometry, layer: NDArray[np.uint8], blocks: Indices, which: int
) -> Float32:
    """K (0) or V (1) of whole blocks: float32 [blocks * block_size, kv heads, head_dim]."""
    size, heads, dim = geometry.block_size, geometry.num_kv_heads, geometry.head_dim
    order = _indices(size, dim, geometry.pack)[which].ravel()
    elements = _elements(geometry, layer, which)[blocks].take(order, axis=-1)
    values = widen(elements, geometry.kv_dtype).reshape(len(blocks), heads, size, dim)
    if geometry.kv_dtype == "int8":
        scales = _scales(geometry, layer, which)[blocks][..., :size]
        # Slots that nobody sees hold anything; what becomes of them is dropped later.
        with np.errstate(over="ignore", invalid="ignore"):
            values = values * scales.astype(np.float32)[..., None]
    return values.transpose(0, 2, 1, 3).reshape(-1, heads, dim)


def _elements(geometry: KvGeometry, layer: NDArray[np.uint8], which: int) -> NDArray[Any]:
    """Elements of K (0) or V (1) of all tiles: [blocks, kv heads, elements]."""
    begin = 2 * geometry.scale_bytes + which * geometry.kv_bytes
    part = _tiles(geometry, layer)[..., begin : begin + geometry.kv_bytes]
    return part.view(STORED_DTYPES[geometry.kv_dtype])


def _scales(geometry: KvGeometry, layer: NDArray[np.uint8], which: int) -> NDArray[Any]:
    """Scales of K (0) or V (1) of all tiles: [blocks, kv heads, padded tokens]."""
    begin = which * geometry.scale_bytes
    part = _tiles(geometry, layer)[..., begin : begin + geometry.scale_bytes]
    return part.view(STORED_DTYPES[geometry.scale_dtype])


def _tiles(geometry: KvGeometry, layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return layer.reshape(geometry.num_blocks, geometry.num_kv_heads, geometry.tile_bytes)


@lru_cache(maxsize=64)
def _indices(block_size: int, head_dim: int, pack: int) -> tuple[Indices, Indices]:
    """Where element (token, dimension) lies in the K and in the V part of a tile."""
    token = np.arange(block_size, dtype=np.intp)[:, None]
    dim = np.arange(head_dim, dtype=np.intp)[None, :]
    k_index = _striped(token, block_size, dim, head_dim, pack)
    return k_index, _striped(dim, head_dim, token, block_size, pack)


def _striped(lane: Indices, num_lanes: int, summed: Indices, num_summed: int, pack: int) -> Indices:
    begin = lane // STRIPE_LANES * STRIPE_LANES
    width = np.minimum(STRIPE_LANES, num_lanes - begin)
    line = summed // pack * width + lane - begin
    return begin * num_summed + line * pack + summed % pack
