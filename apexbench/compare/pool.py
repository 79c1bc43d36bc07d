"""Runs cells one after the other or in parallel processes, with equal results in equal order."""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from apexbench.compare.cells import Cell, CellResult, run_cell
from apexbench.errors import ApexbenchError

POLL_S = 0.2
MAX_DEFAULT_JOBS = 8

_messages: Any = None  # the worker process's end of the progress queue


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a list of cells is; requests count across its runs, those in progress included."""

    runs_done: int
    num_runs: int
    requests_done: int
    num_requests: int


Progress = Callable[[Extent], None]


@dataclass(slots=True)
class Batch:
    """A list of cells and the outcome of each that ended: a result or a sentence.

    `num_lost` cells have neither, because a worker process died.
    """

    cells: Sequence[Cell]
    results: dict[int, CellResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    num_lost: int = 0

    def ordered(self) -> list[CellResult]:
        """Results in the order of the cells, whatever order they ended in."""
        return [self.results[index] for index in sorted(self.results)]

    def extent(self, running: int) -> Extent:
        """`running`: requests completed by cells that have not ended."""
        sizes = [len(cell.workload.requests) for cell in self.cells]
        ended = [*self.results, *self.failures]
        done = sum(sizes[index] for index in ended)
        return Extent(len(ended), len(sizes), done + running, sum(sizes))


def settle_heap() -> None:
    """Keep what the imports left behind out of every garbage collection of the runs to come."""
    gc.collect()
    gc.freeze()


def default_jobs() -> int:
    """Processes to use when nobody says: the cores this process may run on."""
    return max(1, min(MAX_DEFAULT_JOBS, len(os.sched_getaffinity(0))))


class CellRunner:
    """Keeps worker processes alive across batches. Use as a context manager.

    Whatever ends the block early, Ctrl-C included, ends the workers too; results that had come in
    are in the batch.
    """

    def __init__(self, jobs: int, on_progress: Progress) -> None:
        self._jobs = jobs
        self.on_progress = on_progress
        self._pool: ProcessPoolExecutor | None = None
        self._queue: Any = None
        self._running: dict[int, int] = {}

    def __enter__(self) -> "CellRunner":
        if self._jobs == 1:
            settle_heap()
        else:
            context = multiprocessing.get_context("spawn")
            self._queue = context.Queue()
            self._pool = ProcessPoolExecutor(
                self._jobs, mp_context=context, initializer=_start, initargs=(self._queue,)
            )
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if error is not None:
            _kill(self._pool)
        self._pool.shutdown(cancel_futures=True)

    def run(self, batch: Batch) -> None:
        """Run all cells of `batch` and put into it what comes of them."""
        self.on_progress(batch.extent(0))
        if self._pool is None:
            self._run_here(batch)
        else:
            self._run_in_pool(batch, self._pool)

    def _run_here(self, batch: Batch) -> None:
        for index, cell in enumerate(batch.cells):
            with _collecting(batch, index):
                batch.results[index] = run_cell(
                    cell, lambda done: self.on_progress(batch.extent(done))
                )
            self.on_progress(batch.extent(0))

    def _run_in_pool(self, batch: Batch, pool: ProcessPoolExecutor) -> None:
        self._running.clear()
        futures = _submit(pool, batch)
        pending: set[Future[CellResult]] = set(futures)
        while pending:
            done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                with _collecting(batch, futures[future]):
                    batch.results[futures[future]] = future.result()
            self._drain()
            self.on_progress(batch.extent(self._requests_running(batch)))

    def _drain(self) -> None:
        while True:
            try:
                index, completed = self._queue.get_nowait()
            except Empty:
                return
            self._running[index] = completed

    def _requests_running(self, batch: Batch) -> int:
        ended = batch.results.keys() | batch.failures.keys()
        return sum(done for index, done in self._running.items() if index not in ended)


def _submit(pool: ProcessPoolExecutor, batch: Batch) -> dict[Future[CellResult], int]:
    """Workers start here and inherit that Ctrl-C is blocked: to stop them is the parent's decision.

    They would otherwise print a traceback each when the terminal sends it to all. SIGTERM stays:
    it is how the pool itself ends the others after one has died.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        return {pool.submit(_work, i, cell): i for i, cell in enumerate(batch.cells)}
    except BrokenProcessPool:
        batch.num_lost = len(batch.cells)
        return {}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _collecting(batch: Batch, index: int) -> Iterator[None]:
    """A cell that fails is reported and costs no other cell."""
    try:
        yield
    except ApexbenchError as error:
        batch.failures[index] = str(error)
    except BrokenProcessPool:
        batch.num_lost += 1
    except Exception as error:  # noqa: BLE001 - a bug in one run must not lose the others' results
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        batch.failures[index] = f"this is a bug in apexbench: {reason}"


def _start(queue: Any) -> None:
    """Runs first in every worker process."""
    global _messages  # noqa: PLW0603 - set once per worker process
    _messages = queue
    settle_heap()
    queue.cancel_join_thread()  # a worker may end with its last progress unread
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(index: int, cell: Cell) -> CellResult:
    return run_cell(cell, lambda completed: _messages.put((index, completed)))


def _kill(pool: ProcessPoolExecutor) -> None:
    """Do not wait for cells that nobody will read."""
    for process in list((pool._processes or {}).values()):  # noqa: SLF001 - no public way to stop
        process.kill()
