"""What a policy was asked and what it chose, and the same questions again with simulated times.

A policy that learns is told when steps ended. It is asked again in a world in which the same plans
took what the simulator says: where it then chooses another strategy, the simulator would have
misled it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from apexbench.engine.plan import strategy_name
from apexbench.engine.policies.base import (
    Candidates,
    Choice,
    Limits,
    Pacing,
    Policy,
    PolicyContext,
    Traffic,
)
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.running import RunSpec

ToSimulated = Callable[[int], int]  # a time of the recorded run as the simulator has it


class FrozenRow(NamedTuple):
    """A decoding sequence as it was when the policy saw it."""

    id: int
    computed: int
    generated: int
    first_token_ns: int


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: for limits (`traffic`), or for a choice (`work`, and what was chosen).

    `rows_number` tells tuples of rows apart: policies may look whether they are shown the same.
    """

    traffic: Traffic | None = None
    work: Candidates | None = None
    choice: Choice | None = None
    rows_number: int = 0


class Listening:
    """Keeps what a policy is asked and answers."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def to(self, policy: Policy) -> Policy:
        """The policy, overheard."""
        return (
            _PacingEar(policy, self.asked)
            if isinstance(policy, Pacing)
            else _Ear(policy, self.asked)
        )


class _Ear:
    """A policy that is overheard."""

    def __init__(self, policy: Any, asked: list[Asked]) -> None:
        self._policy = policy
        self._asked = asked
        self._rows: tuple[Any, ...] = ()
        self._rows_number = 0
        self.name: str = policy.name
        self.uses_cpu: bool = policy.uses_cpu

    def choose(self, work: Candidates) -> Choice:
        self._rows_number += work.cpu_rows is not self._rows
        self._rows = work.cpu_rows
        frozen = work._replace(cpu_rows=tuple(_frozen(row) for row in work.cpu_rows))
        choice: Choice = self._policy.choose(work)
        self._asked.append(Asked(work=frozen, choice=choice, rows_number=self._rows_number))
        return choice


class _PacingEar(_Ear):
    """One that sets the pace as well."""

    def limits(self, traffic: Traffic) -> Limits:
        self._asked.append(Asked(traffic=traffic))
        limits: Limits = self._policy.limits(traffic)
        return limits


def _frozen(row: Any) -> FrozenRow:
    return FrozenRow(row.id, row.computed, row.generated, row.first_token_ns)


class Agreement(NamedTuple):
    """Choices that were asked for again, and how many named the same strategy."""

    num_choices: int
    num_equal: int

    @property
    def share(self) -> float:
        """1 where there was nothing to choose."""
        return self.num_equal / self.num_choices if self.num_choices else 1.0


def ask_again(spec: RunSpec, asked: Sequence[Asked], to_simulated: ToSimulated) -> Agreement:
    """The same questions, in order, to a new policy that is told simulated times."""
    context = PolicyContext(spec.belief, spec.thresholds, spec.targets)
    policy: Any = find_policy(spec.policy).make(context)
    shown = _Shown(to_simulated)
    num_choices = num_equal = 0
    for question in asked:
        if question.traffic is not None:
            policy.limits(_traffic(question.traffic, to_simulated))
        elif question.work is not None and question.choice is not None:
            work = shown.work(question.work, question.rows_number)
            answer = policy.choose(work)
            num_choices += 1
            num_equal += strategy_of(work, answer) == strategy_of(work, question.choice)
    return Agreement(num_choices, num_equal)


@dataclass(slots=True)
class _ShownRow:
    """A row that changes under the eyes of the policy, as a scheduler's does."""

    id: int
    computed: int
    generated: int
    first_token_ns: int


class _Shown:
    """The rows of each question, in the same tuple where they were in the same one."""

    def __init__(self, to_simulated: ToSimulated) -> None:
        self._to_simulated = to_simulated
        self._rows: tuple[_ShownRow, ...] = ()
        self._number = -1  # nothing yet

    def work(self, work: Candidates, rows_number: int) -> Candidates:
        """What to show."""
        if rows_number != self._number:
            self._number = rows_number
            self._rows = tuple(_ShownRow(row.id, 0, 0, 0) for row in work.cpu_rows)
        for shown, row in zip(self._rows, work.cpu_rows, strict=True):
            shown.computed, shown.generated = row.computed, row.generated
            shown.first_token_ns = self._to_simulated(row.first_token_ns)
        return work._replace(cpu_rows=self._rows)


def strategy_of(work: Candidates, choice: Choice) -> str:
    """The strategy of the plan that a choice leads to."""
    return strategy_name(
        defers=bool(choice.enter) or (work.num_cohorts > 0 and not choice.freezes_cohorts),
        has_in_layer=bool(choice.in_layer_a or choice.in_layer_b),
        has_two_batches=bool(choice.in_layer_b),
    )


def _traffic(traffic: Traffic, to_simulated: ToSimulated) -> Traffic:
    finished = tuple(
        one._replace(
            first_token_ns=to_simulated(one.first_token_ns), end_ns=to_simulated(one.end_ns)
        )
        for one in traffic.finished
    )
    return traffic._replace(now_ns=to_simulated(traffic.now_ns), finished=finished)
