"""A bounded log of rows of whole numbers: what happened, to be read when a run is over."""

import threading
from array import array
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 1 << 20  # of ten numbers each: 80 MiB


class IntLog:
    """The first rows added; `num_rows` counts all. Any thread may add.

    `row` is a NamedTuple of ints; its field names are those of the array.
    """

    def __init__(self, row: type[Any], max_rows: int = MAX_ROWS) -> None:
        self._fields: tuple[str, ...] = row._fields
        self._max_values = max_rows * len(self._fields)
        self._values = array("q")
        self._lock = threading.Lock()
        self.num_rows = 0

    def add(self, row: tuple[int, ...]) -> None:
        """One more."""
        with self._lock:
            self.num_rows += 1
            if len(self._values) < self._max_values:
                self._values.extend(row)

    def rows(self) -> NDArray[np.void]:
        """A copy as a structured array, int64 each."""
        dtype = np.dtype([(name, np.int64) for name in self._fields])
        with self._lock:
            return np.frombuffer(self._values.tobytes(), dtype)


class CpuJob(NamedTuple):
    """One job of CPU attention. `group` is 0 or 1 for in-layer rows of sub-batch A or B, else 2 +
    the cohort's place in the plan; times are nanoseconds on the run's clock.

    `ready_ns` is when the modelled copy had brought q, k and v, `submit_ns` when the library was
    given the job, `end_ns` is stamped by the worker that ended it. Workers serve each priority
    first in, first out, so a job begins when it is submitted or when the one before it is done.
    """

    step: int
    group: int
    layer: int
    priority: int
    rows: int
    kv_tokens: int
    ready_ns: int
    submit_ns: int
    end_ns: int


class StepFact(NamedTuple):
    """One step by the model's time: when it could begin, when the host had scheduled it (the
    modelled time, or the real one where that was longer), and when its tokens were sampled.
    """

    step: int
    begin_ns: int
    scheduled_ns: int
    sampled_ns: int
