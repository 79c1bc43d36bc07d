"""CPU rows between two tiers: the buffers that q, k, v and results travel in, and the C jobs.

In-layer rows have one for a step, a cohort has one until its token is sampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apexbench.cpu_kernels import Job, KvCache, Pool, Priority, Submission, Ticket, block_table
from apexbench.cpu_kernels.geometry import ElementDtype
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.step_ops import URGENT

_ELEMENT_DTYPES: dict[torch.dtype, ElementDtype] = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
}


def element_dtype(dtype: torch.dtype) -> ElementDtype:
    """The C library's name of a model's dtype."""
    return _ELEMENT_DTYPES[dtype]


@dataclass(frozen=True, slots=True)
class HostLane:
    """What all CPU rows share."""

    cache: KvCache
    pool: Pool
    decoder: Decoder

    @property
    def dtype(self) -> torch.dtype:
        """The model's: of q, k, v and results."""
        return self.decoder.weights.dtype


class HostRows:
    """`tables` are the rows' block ids, `context_lens` what each attends to, its new token
    included. Tensors are [rows, heads, head_dim]; q, k, v arrive by `send`, `out` by attention.
    """

    def __init__(
        self, lane: HostLane, tables: Sequence[Sequence[int]], context_lens: Sequence[int]
    ) -> None:
        shape = lane.decoder.config.shape
        self._lane = lane
        rows = len(context_lens)
        self.q = torch.empty(rows, shape.num_heads, shape.head_dim, dtype=lane.dtype)
        self.k = torch.empty(rows, shape.num_kv_heads, shape.head_dim, dtype=lane.dtype)
        self.v = torch.empty_like(self.k)
        self.out = torch.zeros_like(self.q)
        table = block_table(tables)
        lens = np.asarray(context_lens, np.int32)
        self._by_window = {
            window: self._bound(table, lens, window) for window in set(lane.decoder.config.windows)
        }

    def send(self, q: Tensor, k: Tensor, v: Tensor) -> None:
        """To the host: what attention needs of this layer."""
        self.q.copy_(q)
        self.k.copy_(k)
        self.v.copy_(v)

    def attend(self, layer: int, priority: int) -> Ticket:
        """Begin attention of one layer; `out` is there when the ticket is done."""
        submission = self._by_window[self._lane.decoder.config.window_of(layer)]
        urgency = Priority.IN_LAYER if priority == URGENT else Priority.DEFERRED
        return self._lane.pool.launch(submission, layer, urgency)

    def received(self) -> Tensor:
        """From the host: a copy of the result, [rows, heads · head_dim]."""
        return self.out.flatten(1).clone()

    def _bound(
        self,
        table: np.ndarray[tuple[int, int], np.dtype[np.int32]],
        lens: np.ndarray[tuple[int], np.dtype[np.int32]],
        window: int,
    ) -> Submission:
        lane = self._lane
        job = Job(lane.cache).prepare(
            table,
            lens,
            num_q_heads=lane.decoder.config.shape.num_heads,
            q_dtype=element_dtype(lane.dtype),
            softmax_scale=lane.decoder.softmax_scale,
            window=window,
            appends=True,
        )
        return job.bind(self.q, self.out, self.k, self.v)
