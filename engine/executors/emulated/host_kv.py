"""The CPU tier's KV memory on this host: how many tokens fit, and memory that is really there."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from apexbench.cpu_kernels import KvCache, KvGeometry, Pool
from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.cpu_kernels.memory import BYTES_PER_GIB, USABLE_FRACTION, available_bytes
from apexbench.cpu_kernels.native import library
from apexbench.engine.capacity import CPU_BLOCK_TOKENS
from apexbench.engine.models import ModelShape
from apexbench.errors import InputError

_USUAL_ROW = 512  # tokens, to say in rows what tokens mean


@dataclass(frozen=True, slots=True)
class HostKvRoom:
    """What this host can hold: whole blocks. `available_bytes` None: the system does not say."""

    tokens: int
    bytes_per_token: int
    available_bytes: int | None

    def rows(self, context_tokens: int) -> int:
        """Sequences of that many KV tokens, each in blocks of its own."""
        blocks = -(-context_tokens // CPU_BLOCK_TOKENS)
        return self.tokens // (blocks * CPU_BLOCK_TOKENS)


def host_kv_room(model: ModelShape, kv_dtype: KvDtype, wanted_tokens: int) -> HostKvRoom:
    """How many of `wanted_tokens` fit into memory now, without swapping."""
    block_bytes = _geometry(model, kv_dtype, 1).total_bytes
    blocks = wanted_tokens // CPU_BLOCK_TOKENS
    available = available_bytes(library())
    if available is not None:
        blocks = min(blocks, int(available * USABLE_FRACTION) // block_bytes)
    return HostKvRoom(blocks * CPU_BLOCK_TOKENS, block_bytes // CPU_BLOCK_TOKENS, available)


def open_host_kv(
    model: ModelShape, kv_dtype: KvDtype, tokens: int, pool: Pool, rng: np.random.Generator
) -> AbstractContextManager[KvCache]:
    """A cache of `tokens` tokens, all of its memory written, with finite random numbers.

    InputError in one sentence where it does not fit, with what would.
    """
    room = host_kv_room(model, kv_dtype, tokens)
    if room.tokens < tokens // CPU_BLOCK_TOKENS * CPU_BLOCK_TOKENS:
        raise InputError(_does_not_fit(tokens, room))
    cache = KvCache(_geometry(model, kv_dtype, tokens // CPU_BLOCK_TOKENS), pool)
    _fill(cache, rng)
    return cache


def _does_not_fit(tokens: int, room: HostKvRoom) -> str:
    needed = tokens * room.bytes_per_token / BYTES_PER_GIB
    available = (room.available_bytes or 0) / BYTES_PER_GIB
    return (
        f"{tokens} KV tokens on the host need {needed:.2f} GiB and this machine has"
        f" {available:.2f} GiB to give; {room.tokens} tokens would fit"
        f" ({room.rows(_USUAL_ROW)} rows of {_USUAL_ROW}): ask for fewer"
    )


def _geometry(model: ModelShape, kv_dtype: KvDtype, num_blocks: int) -> KvGeometry:
    return KvGeometry(
        num_layers=model.num_layers,
        num_blocks=num_blocks,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        block_size=CPU_BLOCK_TOKENS,
        kv_dtype=kv_dtype,
    )


def _fill(cache: KvCache, rng: np.random.Generator) -> None:
    """One random block, copied into all others: what attention takes depends on addresses, not on
    values, as long as those are ordinary numbers.
    """
    geometry = cache.geometry
    shape = (geometry.block_size, geometry.num_kv_heads, geometry.head_dim)
    k, v = rng.standard_normal((2, *shape), np.float32)
    cache.store(0, [0], 0, k, v)
    blocks = cache.memory.reshape(-1, geometry.block_bytes)
    blocks[1:] = blocks[0]
