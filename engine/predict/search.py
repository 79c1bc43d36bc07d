"""Integer search for the point with the highest score; knows nothing of what points mean."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

Point = tuple[int, ...]
Score = tuple[float, ...]


@dataclass(slots=True)
class Climb:
    """Pattern search among points of at least `lowest` whose coordinates add up to `total` at most.

    It starts at the lowest point with steps as wide as the room, in all directions at once, and
    halves them when none helps, down to 1. Exact where every path rises to one hill, which
    throughput over rows does but for the grain of whole rows.
    """

    lowest: Point
    total: int
    score: Callable[[Point], Score]
    _known: dict[Point, Score] = field(default_factory=dict)

    def best(self) -> Point:
        """The highest point found; of equal ones the first found, which is the smaller."""
        here = self.lowest
        step = 1 << (self.total // 2).bit_length()
        while step:
            there = max(self._around(here, step), key=self._score, default=here)
            if self._score(there) > self._score(here):
                here = there
            else:
                step //= 2
        return here

    def _around(self, here: Point, step: int) -> Iterator[Point]:
        for signs in product((-1, 0, 1), repeat=len(here)):
            there = tuple(x + sign * step for x, sign in zip(here, signs, strict=True))
            if any(signs) and self._holds(there):
                yield there

    def _holds(self, point: Point) -> bool:
        is_above = all(x >= least for x, least in zip(point, self.lowest, strict=True))
        return is_above and sum(point) <= self.total

    def _score(self, point: Point) -> Score:
        if point not in self._known:
            self._known[point] = self.score(point)
        return self._known[point]
