"""Decoding sequences of each tier, with running sums so that a quiet step loops over no rows."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from operator import attrgetter

from apexbench.engine.sequence import Sequence

BY_ORDER = attrgetter("order")  # FCFS


class GpuRows:
    """Rows whose attention runs on the GPU; all of them take part in every step.

    Each step adds one token to each row, so when a row fills its blocks is known as soon as it
    gets them: rows are filed under the step at which they need the next one.
    """

    __slots__ = ("_due", "_ids", "_rows", "_step", "kv_tokens")

    def __init__(self) -> None:
        self._rows: dict[int, Sequence] = {}
        self._ids: tuple[int, ...] | None = ()
        self._step = 0
        self._due: dict[int, list[Sequence]] = {}
        self.kv_tokens = 0  # what the next step's attention reads, the new tokens included

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._rows.values())

    @property
    def ids(self) -> tuple[int, ...]:
        """Sequence ids in the order in which they came."""
        if self._ids is None:
            self._ids = tuple(self._rows)
        return self._ids

    def add(self, row: Sequence) -> None:
        """A row begins to decode here."""
        self._rows[row.id] = row
        self._ids = None
        self.kv_tokens += row.computed + 1
        self.file(row)

    def remove(self, row: Sequence) -> None:
        """A row ends or leaves; its entry under a later step is skipped when that comes."""
        del self._rows[row.id]
        self._ids = None
        self.kv_tokens -= row.computed + 1

    def file(self, row: Sequence) -> None:
        """Note at which step a row will lack room for its token."""
        row.growth_due = self._step + max(0, row.room - row.computed)
        self._due.setdefault(row.growth_due, []).append(row)

    def advance(self) -> None:
        """A step has been run."""
        self._step += 1

    def due(self) -> list[Sequence]:
        """Rows that may lack room for this step's token, oldest first; each must be filed again."""
        filed = self._due.pop(self._step, None)
        if filed is None:
            return []
        here = {row.id: row for row in filed if row.growth_due == self._step}
        return sorted([row for row in here.values() if row.id in self._rows], key=BY_ORDER)


class CpuRows:
    """Rows whose attention runs on the CPU. Free ones may start a token; the others are inside a
    cohort or a copy.
    """

    __slots__ = ("_free", "_listed", "_rows", "free_kv_tokens")

    def __init__(self) -> None:
        self._rows: dict[int, Sequence] = {}
        self._free: list[Sequence] = []
        self._listed: tuple[Sequence, ...] | None = ()
        self.free_kv_tokens = 0  # what attention over all free rows reads, new tokens included

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._rows.values())

    @property
    def free(self) -> tuple[Sequence, ...]:
        """Rows at a token boundary, oldest first."""
        if self._listed is None:
            self._listed = tuple(self._free)
        return self._listed

    def add(self, row: Sequence) -> None:
        """A row comes here; it is free once its KV has arrived."""
        self._rows[row.id] = row

    def remove(self, row: Sequence) -> None:
        """A row ends or leaves."""
        if row.is_free:
            self.hold(row)
        del self._rows[row.id]

    def release(self, row: Sequence) -> None:
        """A row is free to start a token."""
        insort(self._free, row, key=BY_ORDER)
        row.is_free = True
        self._listed = None
        self.free_kv_tokens += row.computed + 1

    def hold(self, row: Sequence) -> None:
        """A row is in use from now on."""
        del self._free[bisect_left(self._free, row.order, key=BY_ORDER)]
        row.is_free = False
        self._listed = None
        self.free_kv_tokens -= row.computed + 1
