"""A batch prepared for attention on one cache, and its tensors bound for submission; no threads.

Prepare once per step, bind once per set of buffers, submit with a new layer as often as wanted.
"""

import ctypes
import weakref
from typing import Any, Protocol, Self

import numpy as np

from apexbench.cpu_kernels.arrays import View, elements, view
from apexbench.cpu_kernels.batch import Batch, checked_batch
from apexbench.cpu_kernels.cache import KvCache, check_block_ids
from apexbench.cpu_kernels.geometry import ElementDtype
from apexbench.cpu_kernels.numpy_attention import Tensors, attend
from apexbench.cpu_kernels.structures import (
    APPEND,
    CHECK_BLOCKS,
    DTYPE_NUMBERS,
    BatchStruct,
    IoStruct,
    SubmissionStruct,
)
from apexbench.errors import UsageError


class InFlight(Protocol):
    """What a submission is while a pool has it."""

    @property
    def is_settled(self) -> bool: ...


class Job:
    """The attention of a batch of rows on `cache`; one submission of it is in flight at a time."""

    def __init__(self, cache: KvCache) -> None:
        self.cache = cache
        self._batch: Batch | None = None
        self._flight: InFlight | None = None
        self._handle: int | None = None
        cache.add_reader(self)
        if cache.library is not None:
            self._handle = self._create()

    def _create(self) -> int | None:
        library = self.cache.library
        assert library is not None
        self.cache.check_layer(0)
        handle = ctypes.c_void_p()
        cache = ctypes.addressof(self.cache.struct)
        library.check(library.slow.apx_job_create(cache, ctypes.addressof(handle)))
        release = weakref.finalize(self, library.slow.apx_job_destroy, handle.value)
        release.atexit = False  # the system takes its memory back
        return handle.value

    def prepare(
        self,
        block_tables: Any,
        context_lens: Any,
        num_q_heads: int,
        q_dtype: ElementDtype,
        softmax_scale: float,
        window: int = 0,
        sink_tokens: int = 0,
        sink_logits: Any = None,
        appends: bool = False,
        checks_blocks: bool = True,
    ) -> Self:
        """Take a batch; its arrays are copied. What was bound before must be bound again.

        block_tables: int32 [rows, entries]; context_lens: int32 [rows], the appended token
        included. appends: each call writes k_new and v_new at a row's last position first.
        checks_blocks: every block id that will be read or written must be of the cache; without,
        a wrong one is a crash. The ISA level in use now is that of all calls. Raises UsageError,
        also while the job is in flight.
        """
        if self.is_in_flight:
            raise UsageError("the job is in flight; wait for its ticket before preparing it again")
        batch = checked_batch(
            self.cache.geometry,
            block_tables,
            context_lens,
            sink_logits,
            num_q_heads=num_q_heads,
            q_dtype=q_dtype,
            softmax_scale=float(softmax_scale),
            window=window,
            sink_tokens=sink_tokens,
            appends=appends,
            checks_blocks=checks_blocks,
        )
        self._batch = self._copied(batch) if self._handle is None else self._planned(batch)
        return self

    def _planned(self, batch: Batch) -> Batch:
        """Hand the batch to the library, which copies and plans it."""
        library = self.cache.library
        assert library is not None
        logits = batch.sink_logits
        struct = BatchStruct(
            batch.num_rows,
            batch.num_q_heads,
            DTYPE_NUMBERS[batch.q_dtype],
            (CHECK_BLOCKS if batch.checks_blocks else 0) | (APPEND if batch.appends else 0),
            batch.block_tables.ctypes.data,
            batch.block_tables.shape[1],
            batch.context_lens.ctypes.data,
            batch.softmax_scale,
            batch.window,
            batch.sink_tokens,
            None if logits is None else logits.ctypes.data,
        )
        self._batch = None  # until it is whole again
        library.check(library.slow.apx_job_prepare(self._handle, ctypes.addressof(struct)))
        return batch

    def _copied(self, batch: Batch) -> Batch:
        """The batch with arrays of its own; the fallback always checks block ids."""
        geometry = self.cache.geometry
        for table, context_len in zip(batch.block_tables, batch.context_lens, strict=True):
            check_block_ids(table[: geometry.blocks_of(int(context_len))], geometry)
        return batch.copy()

    @property
    def batch(self) -> Batch:
        """What was prepared last. Raises UsageError before."""
        if self._batch is None:
            raise UsageError("the job has not been prepared; call prepare() first")
        return self._batch

    @property
    def is_in_flight(self) -> bool:
        """Whether a pool has it and is not done with it."""
        return self._flight is not None and not self._flight.is_settled

    def take_off(self, flight: InFlight) -> None:
        """Note the submission that is in flight from now on; for pools."""
        self._flight = flight

    @property
    def handle(self) -> int | None:
        """The library's apx_job; None in the fallback."""
        return self._handle

    def bind(
        self, q: Any, out: Any, k_new: Any = None, v_new: Any = None, lse: Any = None
    ) -> "Submission":
        """Check the tensors of this job's calls; what comes back can be submitted many times.

        q, out: [rows, num_q_heads, head_dim] of q_dtype; k_new, v_new: [rows, num_kv_heads,
        head_dim] of q_dtype, exactly when the job appends; lse: float32 [rows, num_q_heads], the
        natural log-sum-exp of the scaled scores, or None. Rows may lie apart. Raises UsageError.
        """
        return Submission(self, q, out, k_new, v_new, lse)

    def run_inline(
        self,
        layer: int,
        q: Any,
        out: Any,
        k_new: Any = None,
        v_new: Any = None,
        lse: Any = None,
    ) -> None:
        """The whole job now, on the calling thread, without a pool. Raises UsageError."""
        self.bind(q, out, k_new, v_new, lse).run_inline(layer)


class Submission:
    """A job with its tensors, checked; only the layer changes from call to call."""

    def __init__(self, job: Job, q: Any, out: Any, k_new: Any, v_new: Any, lse: Any) -> None:
        self.job = job
        self._batch = batch = job.batch
        self._memory = job.cache.memory  # lives as long as this does
        self._kept = (q, out, k_new, v_new, lse)
        self._flag: Any = None
        if (k_new is None, v_new is None) != (not batch.appends,) * 2:
            raise UsageError(
                "k_new and v_new are needed because the job appends"
                if batch.appends
                else "k_new and v_new were passed to a job that does not append; prepare it so"
            )
        views = self._views()
        self.struct = SubmissionStruct(job.handle, 0, 0, _io_of(views))
        self.address = ctypes.addressof(self.struct)

    def _views(self) -> dict[str, View]:
        q, out, k_new, v_new, lse = self._kept
        batch, geometry = self._batch, self.job.cache.geometry
        q_shape = (batch.num_rows, batch.num_q_heads, geometry.head_dim)
        kv_shape = (batch.num_rows, geometry.num_kv_heads, geometry.head_dim)
        views = {
            "q": view("q", q, q_shape, batch.q_dtype),
            "out": view("out", out, q_shape, batch.q_dtype, is_written=True),
        }
        if batch.appends:
            views["k_new"] = view("k_new", k_new, kv_shape, batch.q_dtype)
            views["v_new"] = view("v_new", v_new, kv_shape, batch.q_dtype)
            if views["k_new"].row_stride != views["v_new"].row_stride and batch.num_rows > 1:
                raise UsageError("k_new and v_new have different strides from row to row")
        if lse is not None:
            views["lse"] = view("lse", lse, q_shape[:2], "fp32", is_written=True)
        return views

    def check_current(self, layer: int) -> None:
        """Raise UsageError when the job was prepared anew since, or the cache has no such layer."""
        if self.job.batch is not self._batch:
            raise UsageError("the job was prepared again since its tensors were bound; bind again")
        self.job.cache.check_layer(layer)

    def notify(self, flag: Any = None, callback: int = 0, user: int = 0) -> Self:
        """Tell others than the ticket's holder when a call is done, without Python.

        flag: uint32 array of one element, set to 1 with release order; its owner clears it.
        callback: address of a C function `void f(void *user)`, called by the worker that ends the
        job; it must be short, must not block and must not call Python. 0: none.
        """
        if flag is not None and (getattr(flag, "dtype", None) != np.uint32 or flag.size != 1):
            raise UsageError("flag is no NumPy array of one uint32; pass numpy.zeros(1, 'uint32')")
        if self.job.is_in_flight:
            raise UsageError("the job is in flight; wait for its ticket before naming another flag")
        self._flag = flag
        self.struct.flag = None if flag is None else flag.ctypes.data
        self.struct.callback = callback or None
        self.struct.user = user or None
        return self

    def run_inline(self, layer: int) -> None:
        """The whole job now, on the calling thread, without a pool. Raises UsageError."""
        self.check_current(layer)
        library = self.job.cache.library
        if library is None:
            self.compute(layer)
            return
        self.struct.layer = layer
        library.check(library.slow.apx_run_inline(self.address))

    def compute(self, layer: int) -> None:
        """The same in NumPy float32."""
        names = ("q", "out", "k_new", "v_new", "lse")
        arrays = {
            name: elements(name, array, "fp32" if name == "lse" else self._batch.q_dtype)
            for name, array in zip(names, self._kept, strict=True)
            if array is not None
        }
        geometry = self.job.cache.geometry
        attend(geometry, self.job.cache.layer_memory(layer), self._batch, Tensors(**arrays))
        self._notify_now()

    def _notify_now(self) -> None:
        if self.struct.callback:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.struct.callback)(self.struct.user)
        if self._flag is not None:
            self._flag[...] = 1


def _io_of(views: dict[str, View]) -> IoStruct:
    addresses = {name: found.address for name, found in views.items()}
    names = {"q": "q_stride", "out": "out_stride", "k_new": "kv_stride", "lse": "lse_stride"}
    strides = {names[name]: found.row_stride for name, found in views.items() if name in names}
    return IoStruct(**addresses, **strides)
