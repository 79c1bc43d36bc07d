"""Deferred cohorts between their first and last layer: where each waits and how long it has."""

from collections.abc import Iterator
from dataclasses import dataclass

from apexbench.engine.plan import ENTER, JOIN, PROMOTE, CohortStep
from apexbench.engine.sequence import Sequence


@dataclass(slots=True, eq=False)
class Cohort:
    """Rows that compute one token together. `kv_tokens` is what attention reads, every layer."""

    id: int
    rows: tuple[Sequence, ...]
    row_ids: tuple[int, ...]
    kv_tokens: int
    layer: int = 0
    frozen_steps: int = 0
    missed_polls: int = 0


class CohortBook:
    """All outstanding cohorts, oldest first. Membership never changes between pre(0) and sample."""

    __slots__ = ("_active", "_next_id", "num_rows", "steps_since_entry")

    def __init__(self) -> None:
        self._active: dict[int, Cohort] = {}
        self._next_id = 0
        self.num_rows = 0
        self.steps_since_entry = 1 << 30  # long ago: the first cohort may enter at once

    def __len__(self) -> int:
        return len(self._active)

    def __iter__(self) -> Iterator[Cohort]:
        return iter(self._active.values())

    def ids(self) -> tuple[int, ...]:
        """Ids of outstanding cohorts."""
        return tuple(self._active)

    def enter(self, rows: tuple[Sequence, ...]) -> CohortStep:
        """Begin a token for `rows` at pre(0)."""
        ids = tuple([row.id for row in rows])
        cohort = Cohort(self._next_id, rows, ids, sum([row.computed + 1 for row in rows]))
        self._next_id += 1
        self._active[cohort.id] = cohort
        self.num_rows += len(rows)
        self.steps_since_entry = 0
        for row in rows:
            row.cohort = cohort.id
        return CohortStep(cohort.id, ENTER, 0, ids, cohort.kv_tokens)

    def steps(
        self, joinable: frozenset[int] | None, promote: bool, max_missed_polls: int
    ) -> tuple[CohortStep, ...]:
        """What each outstanding cohort does; `joinable` None means that joins wait."""
        cohorts = list(self._active.values())
        if joinable is not None:
            late = [cohort for cohort in cohorts if cohort.id not in joinable]
            late = [cohort for cohort in late if cohort.missed_polls < max_missed_polls]
            for cohort in late:
                cohort.missed_polls += 1
            cohorts = [cohort for cohort in cohorts if cohort not in late]
        action = PROMOTE if promote else JOIN
        return tuple([CohortStep(c.id, action, c.layer, c.row_ids, c.kv_tokens) for c in cohorts])

    def freeze(self, max_frozen_steps: int) -> bool:
        """Leave all cohorts where they are for one step; False when one has waited too long."""
        if any(cohort.frozen_steps >= max_frozen_steps for cohort in self._active.values()):
            return False
        for cohort in self._active.values():
            cohort.frozen_steps += 1
        return True

    def advance(self, steps: tuple[CohortStep, ...], num_layers: int) -> list[Sequence]:
        """After the step: move on by one layer; returns the rows that sampled and are free."""
        self.steps_since_entry += 1
        released: list[Sequence] = []
        active, last = self._active, num_layers - 1
        for cohort_id, action, layer, _, _ in steps:
            if action is PROMOTE or (layer == last and action is JOIN):
                released += self.dissolve(cohort_id)
                continue
            cohort = active[cohort_id]
            cohort.frozen_steps = cohort.missed_polls = 0
            if action is JOIN:
                cohort.layer = layer + 1
        return released

    def dissolve(self, cohort_id: int) -> tuple[Sequence, ...]:
        """Release the rows of a cohort: sampled, failed or dropped."""
        cohort = self._active.pop(cohort_id)
        self.num_rows -= len(cohort.rows)
        for row in cohort.rows:
            row.cohort = None
        return cohort.rows
