"""CPU attention of groups of rows: real jobs of the C library on fixed random q, k and v.

In-layer rows have a job for a step, a cohort has one until its token is sampled; it is submitted
again for each layer. Jobs and buffers are used again and again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels import Job, KvCache, Pool, Priority, Submission, Ticket, block_table
from apexbench.cpu_kernels.deadline import stamp_callback
from apexbench.cpu_kernels.geometry import ElementDtype
from apexbench.engine.models import ModelShape
from apexbench.engine.step_ops import URGENT

_FIRST_ROWS = 64  # buffers double from here when a group has more rows
_Halves = NDArray[Any]  # fp16, or bf16 as uint16


def activation_dtype(kv_dtype: str) -> ElementDtype:
    """What travels to the host beside KV of that dtype: bf16 beside bf16, else fp16."""
    return "bf16" if kv_dtype == "bf16" else "fp16"


class _Inputs:
    """q, k and v of as many rows as any group has had; all groups read the same."""

    def __init__(self, model: ModelShape, dtype: ElementDtype, rng: np.random.Generator) -> None:
        self._model = model
        self._dtype = dtype
        self._rng = rng
        self._grow(_FIRST_ROWS)

    def of(self, rows: int) -> tuple[_Halves, _Halves, _Halves]:
        """q [rows, heads, head_dim], k and v [rows, kv_heads, head_dim]."""
        if rows > len(self._q):
            self._grow(max(rows, 2 * len(self._q)))
        return self._q[:rows], self._k[:rows], self._v[:rows]

    def _grow(self, rows: int) -> None:
        model = self._model
        self._q = self._random(rows, model.num_heads)
        self._k, self._v = (self._random(rows, model.num_kv_heads) for _ in range(2))

    def _random(self, rows: int, heads: int) -> _Halves:
        values = self._rng.standard_normal((rows, heads, self._model.head_dim), np.float32)
        if self._dtype == "bf16":  # the upper half of a float32
            return (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        return values.astype(np.float16)


class GroupRows:
    """A job with its own result and stamp. Prepared for one group at a time."""

    def __init__(self, host: "HostRows") -> None:
        self._host = host
        self._job = Job(host.cache)
        self._out = host.new_output(_FIRST_ROWS)
        self._stamp = np.zeros(1, np.int64)
        self._submission: Submission | None = None
        self.num_rows = 0
        self.kv_tokens = 0

    @property
    def is_in_flight(self) -> bool:
        """Whether the workers have it."""
        return self._job.is_in_flight

    @property
    def end_ns(self) -> int:
        """When the last submission was done, on the host's monotonic clock."""
        return int(self._stamp[0])

    def prepare(self, tables: Sequence[Sequence[int]], context_lens: Sequence[int]) -> None:
        """Take these rows: their KV blocks and tokens, the new one included."""
        host, rows = self._host, len(context_lens)
        self.num_rows, self.kv_tokens = rows, sum(context_lens)
        if rows > len(self._out):
            self._out = host.new_output(max(rows, 2 * len(self._out)))
        self._job.prepare(
            block_table(tables),
            np.asarray(context_lens, np.int32),
            num_q_heads=host.model.num_heads,
            q_dtype=host.dtype,
            softmax_scale=host.model.head_dim**-0.5,
            appends=True,
        )
        q, k, v = host.inputs.of(rows)
        submission = self._job.bind(q, self._out[:rows], k, v)
        self._submission = submission.notify(callback=host.stamp, user=self._stamp.ctypes.data)

    def attend(self, layer: int, priority: int) -> Ticket:
        """Begin attention of one layer."""
        assert self._submission is not None
        urgency = Priority.IN_LAYER if priority == URGENT else Priority.DEFERRED
        return self._host.pool.launch(self._submission, layer, urgency)


class HostRows:
    """What all groups share, and the groups that are not in use."""

    def __init__(
        self, cache: KvCache, pool: Pool, model: ModelShape, rng: np.random.Generator
    ) -> None:
        self.cache = cache
        self.pool = pool
        self.model = model
        self.dtype = activation_dtype(cache.geometry.kv_dtype)
        self.inputs = _Inputs(model, self.dtype, rng)
        self.stamp = stamp_callback()
        self._idle: list[GroupRows] = []

    def new_output(self, rows: int) -> _Halves:
        """Memory of results, [rows, heads, head_dim]."""
        shape = (rows, self.model.num_heads, self.model.head_dim)
        return np.zeros(shape, np.uint16 if self.dtype == "bf16" else np.float16)

    def take(self, tables: Sequence[Sequence[int]], context_lens: Sequence[int]) -> GroupRows:
        """A group prepared for these rows."""
        rows = next((group for group in self._idle if not group.is_in_flight), None)
        if rows is None:
            rows = GroupRows(self)
        else:
            self._idle.remove(rows)
        rows.prepare(tables, context_lens)
        return rows

    def give_back(self, rows: GroupRows) -> None:
        """The group is not needed any more; a job that still runs is left to end."""
        self._idle.append(rows)
