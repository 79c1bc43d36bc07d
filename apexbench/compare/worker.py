"""A worker process: runs the cells that come through a pipe; decides nothing and prints nothing."""

import contextlib
import gc
import os
import pickle
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import TypeVar

from apexbench.compare.cells import CellResult, run_cell
from apexbench.errors import ApexbenchError

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no result, in one sentence."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started and waits for its first cell."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Requests completed so far in the cell that the worker runs."""

    num_requests: int


Message = Ready | Completed | CellResult | Failure  # after the last two it waits for the next cell


def serve(descriptor: int) -> None:
    """Run the pickled cells that come through the inherited `descriptor` until it closes."""
    parent = Connection(descriptor)
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    settle_heap()
    with contextlib.suppress(EOFError, OSError):  # it has closed, in whatever we were saying
        parent.send(Ready())
        while True:
            cell = parent.recv_bytes()
            parent.send(attempt(partial(_run, cell, parent)))


def attempt(find: Callable[[], _Found]) -> _Found | Failure:
    """What `find` finds. A cell that fails is reported and costs no other cell."""
    try:
        return find()
    except ApexbenchError as error:
        return Failure(str(error))
    except Exception as error:  # noqa: BLE001 - a bug in one run must not lose the others' results
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Failure(f"this is a bug in apexbench: {reason}")


def settle_heap() -> None:
    """Keep what the imports left behind out of every garbage collection of the runs to come."""
    gc.collect()
    gc.freeze()


def _run(cell: bytes, parent: Connection) -> CellResult:
    return run_cell(pickle.loads(cell), lambda completed: parent.send(Completed(completed)))


def _end_with_parent(descriptor: int) -> None:
    """A parent that was killed would otherwise be noticed only at the next message to it."""
    hang_up = select.poll()
    hang_up.register(descriptor, select.POLLRDHUP)
    hang_up.poll()
    os._exit(1)
