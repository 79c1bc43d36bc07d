"""Policies that each break one law, and nothing else if that can be helped."""

import itertools

from apexbench.engine.policies.base import JOIN_ALL, Candidates, Choice, Limits, PolicyContext
from apexbench.engine.sequence import Tier


class Bad:
    """What they share: they see CPU rows and may defer."""

    uses_cpu = True
    defers = True

    def __init__(self, context: PolicyContext) -> None:
        self.context = context

    def choose(self, work: Candidates) -> Choice:
        if not work.cpu_rows:
            return JOIN_ALL
        return self.spoil(work, work.cpu_rows[0].id)

    def spoil(self, work: Candidates, row: int) -> Choice:
        raise NotImplementedError


class Twice(Bad):
    name = "twice"

    def spoil(self, work, row):
        return Choice(in_layer_a=(row,), in_layer_b=(row,))


class Unknown(Bad):
    name = "unknown"

    def spoil(self, work, row):
        return Choice(in_layer_a=(987_654,))


class NotFree(Bad):
    """Remembers the rows it deferred and places them again while they are away."""

    name = "not-free"

    def __init__(self, context):
        super().__init__(context)
        self.away: int | None = None

    def choose(self, work):
        if self.away is not None:
            return Choice(in_layer_a=(self.away,))
        return super().choose(work)

    def spoil(self, work, row):
        self.away = row
        return Choice(enter=(row,))


class TooManyCohorts(Bad):
    """A cohort in every step, and none may move."""

    name = "too-many-cohorts"

    def choose(self, work):
        if not work.cpu_rows:
            return Choice(freezes_cohorts=True)
        return Choice(enter=(work.cpu_rows[0].id,), freezes_cohorts=True)


class TooManyRows(Bad):
    name = "too-many-rows"

    def spoil(self, work, row):
        return Choice(enter=tuple(each.id for each in work.cpu_rows))


class DefersUndeclared(Bad):
    name = "undeclared"
    defers = False

    def spoil(self, work, row):
        return Choice(enter=(row,))


class DropsAnything(Bad):
    """Drops prompts wherever they are bound."""

    name = "drops-anything"

    def choose(self, work):
        on_gpu = [chunk for chunk in work.chunks if chunk.tier is Tier.GPU]
        return Choice(drops=(on_gpu[0].sequence,)) if on_gpu else JOIN_ALL


class FreezesAndPromotes(Bad):
    name = "freezes-and-promotes"

    def spoil(self, work, row):
        return Choice(freezes_cohorts=True, promotes_cohorts=True)


class ReturnsNothing(Bad):
    name = "returns-nothing"

    def spoil(self, work, row):
        return None


class ReturnsLists(Bad):
    name = "returns-lists"

    def spoil(self, work, row):
        return Choice(in_layer_a=[row])  # type: ignore[arg-type]


class ReturnsRows(Bad):
    """Rows instead of their ids."""

    name = "returns-rows"

    def spoil(self, work, row):
        return Choice(in_layer_a=(work.cpu_rows[0],))


class ReturnsUnhashable(Bad):
    name = "returns-unhashable"

    def spoil(self, work, row):
        return Choice(in_layer_a=([row],))  # type: ignore[arg-type]


class Raises(Bad):
    name = "raises"

    def spoil(self, work, row):
        return Choice(in_layer_a=(row // 0,))


class ReadsMore(Bad):
    """Looks at what the scheduler knows of a row beyond id and length."""

    name = "reads-more"

    def spoil(self, work, row):
        return Choice(in_layer_a=(row,) if work.cpu_rows[0].preemptions > 3 else ())


class Changes(Bad):
    """Changes the rows it is shown."""

    name = "changes"

    def spoil(self, work, row):
        work.cpu_rows[0].computed += 0
        return Choice(in_layer_a=(row,))


_moments = itertools.count()


class DrawsAtRandom(Bad):
    """Depends on something other than work and steps."""

    name = "draws-at-random"

    def spoil(self, work, row):
        return Choice(in_layer_a=(row,) if next(_moments) % 3 else ())


_instances = itertools.count()


class RemembersRuns(Bad):
    """Every second one made goes another way."""

    name = "remembers-runs"

    def __init__(self, context):
        super().__init__(context)
        self.is_odd = next(_instances) % 2

    def spoil(self, work, row):
        return Choice(in_layer_a=(row,) if self.is_odd else ())


class PacesBadly(Bad):
    name = "paces-badly"

    def limits(self, traffic):
        return None


class NeverAdmits(Bad):
    name = "never-admits"

    def limits(self, traffic):
        return Limits(0, None)


class RaisesInLimits(Bad):
    name = "raises-in-limits"

    def limits(self, traffic):
        return Limits(traffic.nothing, None)


class FailsToStart(Bad):
    """Only with some models."""

    name = "fails-to-start"

    def __init__(self, context):
        super().__init__(context)
        self.share = 1 // (context.belief.num_layers - 5)
