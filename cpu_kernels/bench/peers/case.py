"""What every peer is given: the same rows, KV values and memory; and how its answer is checked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.scope import ROTATION_BYTES, PeerDtype, Shape
from apexbench.cpu_kernels.numbers import Float32, narrow, widen

SEED = 7
# 16-bit results of 16-bit KV, whatever the order of sums: a wrong layout is off by tens of percent.
TOLERANCE = 0.02
ELEMENT_BYTES = 2


class PeerUnavailableError(Exception):
    """The peer cannot be measured here; the message says why in a few words."""


class Peer(Protocol):
    """A library's attention on KV of its own layout, `num_regions` times as large as one layer."""

    version: str

    def run(self, region: int) -> None:
        """The attention of all rows on one region of the KV; this is what is timed."""
        ...

    def output(self) -> Float32:
        """What the last run computed: float32 [rows, query heads, head_dim]."""
        ...


@dataclass(slots=True)
class PeerCase:
    """One contest: a shape, a dtype, where memory comes from, and the values.

    All rows have the same K and V, one row's worth of values repeated, and each its own q.
    """

    shape: Shape
    dtype: PeerDtype
    allocate: Callable[[int], NDArray[np.uint8]]
    q: Float32 = field(init=False)  # [rows, query heads, head_dim]
    k: Float32 = field(init=False)  # [tokens, KV heads, head_dim], as the dtype can have them
    v: Float32 = field(init=False)
    _dense: NDArray[Any] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        shape, rng = self.shape, np.random.default_rng(SEED)
        kv_shape = (2, shape.context, shape.num_kv_heads, shape.head_dim)
        q_shape = (shape.batch, shape.num_q_heads, shape.head_dim)
        self.k, self.v = self._rounded(rng.standard_normal(kv_shape, np.float32))
        self.q = self._rounded(rng.standard_normal(q_shape, np.float32))

    @property
    def kv_bytes(self) -> int:
        """KV bytes of one region, each counted once."""
        shape = self.shape
        elements = 2 * shape.num_kv_heads * shape.head_dim
        return shape.batch * shape.context * elements * ELEMENT_BYTES

    @property
    def num_regions(self) -> int:
        """Regions that make ROTATION_BYTES, and two at least."""
        return max(2, -(-ROTATION_BYTES // self.kv_bytes))

    def elements(self, values: Float32) -> NDArray[Any]:
        """float16, or uint16 that holds bf16."""
        return narrow(values, self.dtype)

    def dense(self) -> NDArray[Any]:
        """[regions, K and V, rows, KV heads, tokens, head_dim]: shared by all that want it so."""
        if self._dense is None:
            shape = self.shape
            row = np.stack([self.k, self.v]).transpose(0, 2, 1, 3)[None, :, None]
            sizes = (shape.batch, shape.num_kv_heads, shape.context, shape.head_dim)
            memory = self.allocate(self.num_regions * self.kv_bytes)
            elements = self.elements(row)
            self._dense = memory.view(elements.dtype).reshape(self.num_regions, 2, *sizes)
            self._dense[:] = elements
        return self._dense

    def check(self, peer: Peer) -> None:
        """PeerUnavailableError unless the peer computes what everybody else does."""
        peer.run(0)
        wanted = self._expected()
        error = float(np.abs(peer.output() - wanted).max() / np.abs(wanted).max())
        if not error <= TOLERANCE:
            raise PeerUnavailableError(f"its result is off by {error:.2g} of the largest value")

    def _expected(self) -> Float32:
        """Softmax attention in float64, written as its definition."""
        shape = self.shape
        groups = (shape.batch, shape.num_kv_heads, shape.gqa_group, shape.head_dim)
        q = self.q.reshape(groups).astype(np.float64)
        scores = np.einsum("bhgd,thd->bhgt", q, self.k) * shape.head_dim**-0.5
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out: Float32 = np.einsum("bhgt,thd->bhgd", weights, self.v).astype(np.float32)
        return out.reshape(self.q.shape)

    def _rounded(self, values: Float32) -> Float32:
        return widen(narrow(values, self.dtype), self.dtype)
