"""One lane as a thread: urgent ops in program order, bulk copies in the time that is left.

Bulk copies are first in, first out and give way between pieces, as on the simulated lanes.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue

from apexbench.engine.clock import Clock
from apexbench.engine.executors.threads.step_run import OpRun
from apexbench.engine.step_ops import DEFERRABLE

_SENTINEL = object()


Completed = Callable[[OpRun], None]


class LaneThread:
    """Runs the ops that `queue` hands over, and tells `on_done` after each.

    Nobody but its thread takes ops off the queues, and nobody but the executor puts them on.
    """

    def __init__(self, name: str, clock: Clock, on_done: Completed) -> None:
        self.name = name
        self.begins: Callable[[], None] | None = None  # first thing on the thread, such as pinning
        self._clock = clock
        self._on_done = on_done
        self._urgent: deque[OpRun] = deque()
        self._bulk: deque[OpRun] = deque()
        self._pieces: Iterator[None] | None = None
        self._bell: SimpleQueue[object] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"lane {name}", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def queue(self, runs: list[OpRun]) -> None:
        """Take over the ops of a step, in program order."""
        for run in runs:
            (self._bulk if run.op.priority == DEFERRABLE else self._urgent).append(run)
        self.ring()

    def ring(self) -> None:
        """An op may have become ready."""
        self._bell.put(None)

    def close(self) -> None:
        """End the thread once it is at rest; ops that are not ready are dropped."""
        self._bell.put(_SENTINEL)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def native_id(self) -> int | None:
        """The thread as the system knows it."""
        return self._thread.native_id

    def _work(self) -> None:
        if self.begins is not None:
            self.begins()
        while True:
            if not self._run_next() and self._bell.get() is _SENTINEL:
                return

    def _run_next(self) -> bool:
        """One urgent op, else one piece of a bulk copy; False when nothing is ready."""
        urgent = self._urgent
        if urgent and not urgent[0].missing:
            self._run(urgent.popleft())
            return True
        if self._bulk and not self._bulk[0].missing:
            self._run_piece(self._bulk[0])
            return True
        return False

    def _run(self, run: OpRun) -> None:
        run.start_ns = self._clock.now_ns()
        try:
            run.step.work.run(run.op)
        except Exception as error:  # noqa: BLE001 - it fails the op's rows, not the lane
            run.error = error
        self._finish(run)

    def _run_piece(self, run: OpRun) -> None:
        try:
            if self._pieces is None:
                run.start_ns = self._clock.now_ns()
                self._pieces = run.step.work.pieces(run.op)
            next(self._pieces)
        except StopIteration:
            self._end_of_bulk(run)
        except Exception as error:  # noqa: BLE001 - it fails the op's rows, not the lane
            run.error = error
            self._end_of_bulk(run)

    def _end_of_bulk(self, run: OpRun) -> None:
        self._pieces = None
        self._bulk.popleft()
        self._finish(run)

    def _finish(self, run: OpRun) -> None:
        run.end_ns = self._clock.now_ns()
        self._on_done(run)
