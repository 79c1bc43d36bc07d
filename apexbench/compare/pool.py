"""Runs cells one after the other or in parallel processes, with equal results in equal order.

Each worker process has a pipe of its own to this one, and nothing else is shared: no lock and no
queue that a killed process could leave unusable. (concurrent.futures waits for ever when a worker
is killed in the middle of a result, because the parent itself holds the pipe open.)
"""

import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from subprocess import DEVNULL, Popen
from typing import Protocol

from apexbench.compare.cells import Cell, CellResult, run_cell
from apexbench.compare.worker import (
    Completed,
    Failure,
    Message,
    Ready,
    attempt,
    settle_heap,
)

POLL_S = 0.2  # the longest time between two reports of progress
MAX_DEFAULT_JOBS = 8
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SERVE = "import sys; from apexbench.compare.worker import serve; serve(int(sys.argv[1]))"


@dataclass(frozen=True, slots=True)
class Loaded:
    """How much of what runs share has been read."""

    bytes_done: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a list of cells is; requests count across its runs, those in progress included.

    `tokens_per_s` is the output rate of the run in progress, where runs take real time; `loaded`
    says that there are no runs yet.
    """

    runs_done: int = 0
    num_runs: int = 0
    requests_done: int = 0
    num_requests: int = 0
    tokens_per_s: float | None = None
    loaded: Loaded | None = None


Progress = Callable[[Extent], None]  # may raise KeyboardInterrupt: nothing is half done then


@dataclass(slots=True)
class Batch:
    """A list of cells and the outcome of each that ended: a result or a sentence.

    `num_lost` cells have neither, because a worker process died.
    """

    cells: Sequence[Cell]
    results: dict[int, CellResult] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    num_lost: int = 0

    @property
    def num_open(self) -> int:
        """Cells without an outcome."""
        return len(self.cells) - len(self.results) - len(self.failures)

    def keep(self, index: int, outcome: CellResult | Failure) -> None:
        """What came of a cell."""
        if isinstance(outcome, Failure):
            self.failures[index] = outcome.sentence
        else:
            self.results[index] = outcome

    def ordered(self) -> list[CellResult]:
        """Results in the order of the cells, whatever order they ended in."""
        return [self.results[index] for index in sorted(self.results)]

    def extent(self, running: int, tokens_per_s: float | None = None) -> Extent:
        """`running`: requests completed by cells that have not ended."""
        sizes = [len(cell.workload.requests) for cell in self.cells]
        ended = [*self.results, *self.failures]
        done = sum(sizes[index] for index in ended)
        return Extent(len(ended), len(sizes), done + running, sum(sizes), tokens_per_s)


class Runner(Protocol):
    """Runs cells somewhere. A context manager; a report that raises ends what is running."""

    on_progress: Progress

    def __enter__(self) -> "Runner":
        """Get ready."""
        ...

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        ...

    def run(self, batch: Batch) -> None:
        """Run all cells of `batch` and put into it what comes of them."""
        ...


def default_jobs() -> int:
    """Processes to use when nobody says: the cores this process may run on."""
    return max(1, min(MAX_DEFAULT_JOBS, len(os.sched_getaffinity(0))))


class CellRunner:
    """Keeps worker processes alive across batches. Use as a context manager.

    Progress is reported every `POLL_S` at least, or after every few steps where there is one
    process. Whatever ends the block, Ctrl-C included, ends the workers too; results that had come
    in are in the batch.
    """

    def __init__(self, jobs: int, on_progress: Progress) -> None:
        self._jobs = jobs
        self.on_progress = on_progress
        self._workers: list[_Worker] = []

    def __enter__(self) -> "CellRunner":
        if self._jobs == 1:
            settle_heap()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill the workers: they hold nothing, and nobody waits for what they are doing."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()

    def run(self, batch: Batch) -> None:
        """Run all cells of `batch` and put into it what comes of them."""
        self.on_progress(batch.extent(0))
        if self._jobs == 1:
            self._run_here(batch)
        else:
            self._run_in_workers(batch)

    def _run_here(self, batch: Batch) -> None:
        for index, cell in enumerate(batch.cells):
            report = partial(self._report, batch)
            batch.keep(index, attempt(partial(run_cell, cell, report)))
            self._report(batch, 0)

    def _report(self, batch: Batch, running: int) -> None:
        self.on_progress(batch.extent(running))

    def _run_in_workers(self, batch: Batch) -> None:
        if not self._is_broken:
            self._hire(min(self._jobs, len(batch.cells)))
        waiting = deque(range(len(batch.cells)))
        while batch.num_open and not self._is_broken:
            self._hand_out(batch, waiting)
            self._listen(batch)
            self._report(batch, sum(worker.completed for worker in self._workers))
        batch.num_lost = batch.num_open

    @property
    def _is_broken(self) -> bool:
        """A worker has died: whatever killed it would meet its cell again."""
        return any(worker.is_dead for worker in self._workers)

    def _hire(self, num_workers: int) -> None:
        with _signals_blocked():
            while len(self._workers) < num_workers:
                self._workers.append(_Worker.start())

    def _hand_out(self, batch: Batch, waiting: deque[int]) -> None:
        for worker in self._workers:
            if worker.is_idle and waiting:
                index = waiting.popleft()
                data = attempt(partial(pickle.dumps, batch.cells[index]))
                if isinstance(data, Failure):
                    batch.keep(index, data)
                else:
                    worker.take(index, data)

    def _listen(self, batch: Batch) -> None:
        """Wait for messages, of which a death is one: the worker's end of the pipe closes."""
        speaking = wait([worker.connection for worker in self._workers], POLL_S)
        for worker in self._workers:
            if worker.connection in speaking:
                outcome = worker.listen()
                if outcome is not None:
                    batch.keep(worker.index, outcome)


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker process as its parent sees it; `index`: the cell it was given last."""

    process: Popen[bytes]
    connection: Connection
    index: int = 0
    completed: int = 0
    is_idle: bool = False  # not before it says so: sending a large cell waits until it reads
    is_dead: bool = False

    @classmethod
    def start(cls) -> "_Worker":
        """With the parent's modules; by hand, because multiprocessing's children print a traceback
        when the parent is killed while it starts them."""
        ours, theirs = Pipe()
        with theirs:  # then the worker alone holds it, and it closes when the worker dies
            process = Popen(
                [sys.executable, "-P", "-c", _SERVE, str(theirs.fileno())],
                stdin=DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        return cls(process, ours)

    def take(self, index: int, cell: bytes) -> None:
        """Give it the pickled cell."""
        self.index, self.is_idle = index, False
        try:
            self.connection.send_bytes(cell)
        except OSError:
            self.is_dead = True

    def listen(self) -> CellResult | Failure | None:
        """Its next message, waiting for it; the outcome of its cell if that is what it was."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self.is_dead = True
            return None
        if isinstance(message, Completed):
            self.completed = message.num_requests
            return None
        self.completed, self.is_idle = 0, True
        return None if isinstance(message, Ready) else message


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Workers start here and inherit that Ctrl-C and SIGTERM are blocked.

    To stop them is the parent's decision; they would otherwise print a traceback each, or die
    before it, when a terminal or a supervisor signals the whole group.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
