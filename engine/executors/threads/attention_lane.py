"""The CPU-attention lane: the C library's workers do it, two threads here wait for what they did.

One waits for in-layer work, one for deferred: each class is first in, first out. They sleep in C.
"""

import threading
from queue import SimpleQueue

from apexbench.engine.clock import Clock
from apexbench.engine.executors.threads.lane import Completed
from apexbench.engine.executors.threads.step_run import OpRun
from apexbench.engine.executors.threads.work import Attention

_Submitted = tuple[OpRun, Attention]


class AttentionLane:
    """Submits ops on the caller's thread and calls `on_done` from its own when they are done."""

    def __init__(self, clock: Clock, on_done: Completed) -> None:
        self._clock = clock
        self._on_done = on_done
        self._waiting: tuple[SimpleQueue[_Submitted | None], ...] = (SimpleQueue(), SimpleQueue())
        self._threads = [
            threading.Thread(target=self._wait, args=(queue,), name=f"lane cpu {name}", daemon=True)
            for name, queue in zip(("in-layer", "deferred"), self._waiting, strict=True)
        ]

    def start(self) -> None:
        """Begin to wait."""
        for thread in self._threads:
            thread.start()

    def submit(self, run: OpRun) -> None:
        """Start the op's attention now."""
        run.start_ns = self._clock.now_ns()
        try:
            attention = run.step.work.submit(run.op)
        except Exception as error:  # noqa: BLE001 - it fails the op's rows, not the lane
            self._finish(run, error)
            return
        self._waiting[run.op.priority].put((run, attention))

    def close(self) -> None:
        """End the threads once everything submitted is done."""
        for queue in self._waiting:
            queue.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def native_ids(self) -> tuple[int | None, ...]:
        """The waiting threads as the system knows them."""
        return tuple(thread.native_id for thread in self._threads)

    def _wait(self, queue: SimpleQueue[_Submitted | None]) -> None:
        while (submitted := queue.get()) is not None:
            run, attention = submitted
            try:
                attention.wait()
            except Exception as error:  # noqa: BLE001 - it fails the op's rows, not the lane
                self._finish(run, error)
            else:
                self._finish(run, None)

    def _finish(self, run: OpRun, error: Exception | None) -> None:
        run.error = error
        run.end_ns = self._clock.now_ns()
        self._on_done(run)
