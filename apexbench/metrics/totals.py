"""The checkpoints of a run as columns and what grows between two instants; judges nothing."""

from collections.abc import Sequence

import numpy as np

from apexbench.records import IDLE_REASONS, LANES, NS_PER_S, STRATEGIES, Checkpoint
from apexbench.statistics import FloatArray


class Totals:
    """The checkpoints of a run as columns; linear between them, exact at them."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        # Of checkpoints at one instant only the last counts: it has seen all of that instant.
        rows = list({point.time_ns: point for point in checkpoints}.values())
        self.time_ns = np.array([row.time_ns for row in rows] or [0], dtype=np.float64)
        self._columns: dict[str, FloatArray] = {
            name: np.array([getattr(row, name) for row in rows] or [0], dtype=np.float64)
            for name in _SCALARS
        }
        for field, prefix, names in _VECTORS:
            values = [getattr(row, field) for row in rows] or [[0] * len(names)]
            for name, column in zip(names, np.array(values, dtype=np.float64).T, strict=True):
                self._columns[f"{prefix}_{name}"] = column

    def at(self, name: str, time_ns: FloatArray) -> FloatArray:
        values: FloatArray = np.interp(time_ns, self.time_ns, self._columns[name])
        return values

    def means(self, name: str, edges_ns: FloatArray) -> FloatArray:
        """Time averages of a state over consecutive intervals."""
        values = self._columns[name]
        areas = (values[1:] + values[:-1]) / 2 * np.diff(self.time_ns)
        integral = np.concatenate([[0.0], np.cumsum(areas)])
        averages: FloatArray = np.diff(np.interp(edges_ns, self.time_ns, integral))
        return averages / np.diff(edges_ns)


_SCALARS = (
    "output_tokens", "prompt_tokens", "completed", "overlap_ns",
    "waiting", "gpu_rows", "cpu_resident",
)  # fmt: skip
_VECTORS = (
    ("busy_ns", "busy", LANES),
    ("idle_ns", "idle", IDLE_REASONS),
    ("strategy_steps", "steps", STRATEGIES),
)


class Growth:
    """Growth of the totals between two instants; every rate of an empty span is 0."""

    def __init__(self, totals: Totals, start_ns: float, end_ns: float) -> None:
        self._totals, self._start_ns, self._end_ns = totals, start_ns, end_ns
        self.duration_s = (end_ns - start_ns) / NS_PER_S

    def count(self, name: str) -> float:
        first, last = self._totals.at(name, np.array([self._start_ns, self._end_ns]))
        return float(last - first)

    def rate(self, name: str) -> float:
        """Per second."""
        return self.count(name) / self.duration_s if self.duration_s > 0 else 0.0

    def fraction(self, name: str) -> float:
        """Share of the span, of a total in nanoseconds."""
        return self.rate(name) / NS_PER_S

    def halves(self) -> tuple["Growth", "Growth"]:
        middle = (self._start_ns + self._end_ns) / 2
        return (
            Growth(self._totals, self._start_ns, middle),
            Growth(self._totals, middle, self._end_ns),
        )

    def state_at_end(self, name: str) -> float:
        return float(self._totals.at(name, np.array([self._end_ns]))[0])
