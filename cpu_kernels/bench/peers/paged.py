"""Shuffled blocks for peers with paged caches, filled with the case's values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.peers.case import SEED, PeerCase


@dataclass(frozen=True, slots=True)
class Paging:
    """Blocks of one region, and which of them each row has, in order."""

    block_size: int
    num_blocks: int
    table: NDArray[np.int32]  # [rows, blocks per row]


def shuffled_paging(case: PeerCase, block_size: int) -> Paging:
    """Every block of a region at a random place."""
    per_row = -(-case.shape.context // block_size)
    num_blocks = case.shape.batch * per_row
    ids = np.random.default_rng(SEED).permutation(num_blocks).astype(np.int32)
    return Paging(block_size, num_blocks, ids.reshape(case.shape.batch, per_row))


def spread_blocks(cache: Any, row_blocks: Any, paging: Paging) -> None:
    """Copy one row's blocks [blocks per row, ...] to those of all rows, in all regions.

    cache: a tensor of [regions, blocks, ...].
    """
    for table in paging.table:
        cache[:, table] = row_blocks
