"""A policy that does anything the laws allow, at random: what no sensible policy would combine."""

import numpy as np

from apexbench.engine.policies.base import Candidates, Choice, PolicyContext
from apexbench.engine.sequence import Tier

FICKLE = f"{__name__}:Fickle"


class Fickle:
    """Splits CPU rows among both sub-batches, a new cohort and none; freezes, promotes, drops."""

    name = "fickle"
    uses_cpu = True
    defers = True

    def __init__(self, context: PolicyContext) -> None:
        self._rng = np.random.default_rng(5)
        self._max_cohorts = context.belief.num_layers + 1
        self._max_rows = context.thresholds.max_deferred_rows or context.thresholds.max_running_rows

    def choose(self, work: Candidates) -> Choice:
        rng = self._rng
        places: list[list[int]] = [[], [], [], []]
        weights = rng.dirichlet((1, 1, 1, 0.3))
        for row, place in zip(
            work.cpu_rows, rng.choice(4, len(work.cpu_rows), p=weights), strict=True
        ):
            places[int(place)].append(row.id)
        may_enter = work.num_cohorts < self._max_cohorts
        entering = places[2][: max(0, self._max_rows - work.deferred_rows)] if may_enter else []
        bound = [chunk.sequence for chunk in work.chunks if chunk.tier is Tier.CPU]
        freezes = bool(rng.random() < 0.1)
        return Choice(
            in_layer_a=tuple(places[0]),
            in_layer_b=tuple(places[1]),
            enter=tuple(entering),
            drops=tuple(bound[:1]) if rng.random() < 0.1 else (),
            freezes_cohorts=freezes,
            promotes_cohorts=not freezes and bool(rng.random() < 0.15),
        )
