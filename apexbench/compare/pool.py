"""Runs cells one after the other or in parallel processes, with equal results in equal order."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from apexbench.compare.cells import Cell, CellResult, run_cell
from apexbench.errors import ApexbenchError

POLL_S = 0.2
MAX_DEFAULT_JOBS = 8

# (cells done, cells in total, requests completed in cells still running)
Progress = Callable[[int, int, int], None]
_messages: Any = None  # the worker process's end of the progress queue


@dataclass(slots=True)
class Batch:
    """Outcome of a list of cells: a result or a sentence for each that ended."""

    results: dict[int, CellResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    is_interrupted: bool = False

    def ordered(self) -> list[CellResult]:
        """Results in the order of the cells, whatever order they ended in."""
        return [self.results[index] for index in sorted(self.results)]


def default_jobs() -> int:
    """Processes to use when nobody says: the cores this process may run on."""
    return max(1, min(MAX_DEFAULT_JOBS, len(os.sched_getaffinity(0))))


class CellRunner:
    """Keeps worker processes alive across batches. Use as a context manager."""

    def __init__(self, jobs: int, on_progress: Progress) -> None:
        self._jobs = jobs
        self.on_progress = on_progress
        self._pool: ProcessPoolExecutor | None = None
        self._queue: Any = None
        self._running: dict[int, int] = {}

    def __enter__(self) -> "CellRunner":
        if self._jobs > 1:
            context = multiprocessing.get_context("spawn")
            self._queue = context.Queue()
            self._pool = ProcessPoolExecutor(
                self._jobs, mp_context=context, initializer=_start, initargs=(self._queue,)
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, cells: Sequence[Cell]) -> Batch:
        """Run all cells. Ctrl-C ends the batch early: what is done is in it."""
        batch = Batch()
        self.on_progress(0, len(cells), 0)
        try:
            if self._pool is None:
                self._run_here(cells, batch)
            else:
                self._run_in_pool(cells, batch, self._pool)
        except KeyboardInterrupt:
            batch.is_interrupted = True
            if self._pool is not None:
                _kill(self._pool)
        return batch

    def _run_here(self, cells: Sequence[Cell], batch: Batch) -> None:
        for index, cell in enumerate(cells):
            with _collecting(batch, index):
                batch.results[index] = run_cell(
                    cell, lambda done: self.on_progress(len(batch.results), len(cells), done)
                )
            self.on_progress(index + 1, len(cells), 0)

    def _run_in_pool(self, cells: Sequence[Cell], batch: Batch, pool: ProcessPoolExecutor) -> None:
        futures = {pool.submit(_work, index, cell): index for index, cell in enumerate(cells)}
        pending: set[Future[CellResult]] = set(futures)
        while pending:
            done, pending = wait(pending, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                index = futures[future]
                self._running.pop(index, None)
                with _collecting(batch, index):
                    batch.results[index] = future.result()
            self._drain(batch)
            ended = len(batch.results) + len(batch.failures)
            self.on_progress(ended, len(cells), sum(self._running.values()))

    def _drain(self, batch: Batch) -> None:
        while True:
            try:
                index, completed = self._queue.get_nowait()
            except Empty:
                return
            if index not in batch.results:
                self._running[index] = completed


@contextmanager
def _collecting(batch: Batch, index: int) -> Iterator[None]:
    """A cell that fails is reported and costs no other cell."""
    try:
        yield
    except ApexbenchError as error:
        batch.failures[index] = str(error)


def _start(queue: Any) -> None:
    """Workers leave Ctrl-C to the parent, which decides what is still written."""
    global _messages  # noqa: PLW0603 - set once per worker process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _messages = queue


def _work(index: int, cell: Cell) -> CellResult:
    return run_cell(cell, lambda completed: _messages.put((index, completed)))


def _kill(pool: ProcessPoolExecutor) -> None:
    """Do not wait for cells that nobody will read."""
    for process in list((pool._processes or {}).values()):  # noqa: SLF001 - no public way to stop
        process.terminate()
