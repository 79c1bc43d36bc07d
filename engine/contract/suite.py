"""The laws every policy keeps, each as a check that a seed repeats. Knows no policy by name."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from apexbench.engine.contract import drawn
from apexbench.engine.contract.checked import CheckedScheduler, check_served, run_checked
from apexbench.engine.policies.base import (
    Candidates,
    Choice,
    Limits,
    Pacing,
    Policy,
    PolicyContext,
    Traffic,
)
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.laws import ChoiceLaws
from apexbench.engine.simulate import simulate
from apexbench.errors import ApexbenchError, PolicyError

STEPS_PER_POLICY = 12  # choices asked of one policy in a row


@dataclass(frozen=True, slots=True)
class PolicyLaw:
    """A law in words, and the check that raises an ApexbenchError where a policy breaks it."""

    name: str
    check: Callable[[PolicyEntry, np.random.Generator], None]


@dataclass(frozen=True, slots=True)
class Breach:
    """A law that was broken, the seed that repeats it, and what happened."""

    law: str
    seed: int
    sentence: str


def first_breach(entry: PolicyEntry, law: PolicyLaw, seeds: Iterable[int]) -> Breach | None:
    """The first of `seeds` under which `law` breaks; None when it holds under all of them."""
    for seed in seeds:
        try:
            law.check(entry, np.random.default_rng(seed))
        except ApexbenchError as error:
            return Breach(law.name, seed, str(error))
    return None


# -- choices ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Placed:
    is_free: bool = True


def legal(entry: PolicyEntry, rng: np.random.Generator) -> None:
    """Choices about drawn work are legal, use id and computed of a row alone, and depend on
    nothing but the work and the steps before.
    """
    for costs in (drawn.costs(rng), drawn.t4_costs()):
        limits = drawn.thresholds(rng)
        context = PolicyContext(costs, limits, drawn.targets(rng))
        policy, twin = entry.make(context), entry.make(context)
        laws = ChoiceLaws(
            entry.name, num_layers=costs.num_layers, thresholds=limits, defers=entry.defers
        )
        for step in range(STEPS_PER_POLICY):
            work = drawn.work(rng, limits, costs.num_layers)
            choice = _chosen(policy, laws, step, work)
            other = _chosen(twin, laws, step, work)
            if other != choice:
                raise PolicyError(
                    f"policy '{entry.name}' chose {choice} and, made again and shown the same, "
                    f"{other}"
                )


def _chosen(policy: Policy, laws: ChoiceLaws, step: int, work: Candidates) -> Choice:
    try:
        choice = policy.choose(work)
    except ApexbenchError:
        raise
    except Exception as error:
        raise laws.raised(step, error) from error
    laws.check(step, work, choice, {row.id: _Placed() for row in work.cpu_rows})
    return choice


# -- runs ------------------------------------------------------------------------------------------


def served(entry: PolicyEntry, rng: np.random.Generator) -> None:
    """All that fits is served in a bounded number of steps, with every book in order."""
    spec = drawn.spec(rng, entry.name)
    check_served(spec, run_checked(spec))


def cancelled(entry: PolicyEntry, rng: np.random.Generator) -> None:
    """Requests may be stopped at any moment."""
    run_checked(drawn.spec(rng, entry.name), cancels=rng)


def repeated(entry: PolicyEntry, rng: np.random.Generator) -> None:
    """Equal runs give equal logs."""
    spec = drawn.spec(rng, entry.name)
    if simulate(spec) != simulate(spec):
        raise PolicyError(f"policy '{entry.name}' did something else in an equal run")


_Decision = tuple[Candidates, Choice] | tuple[Traffic, Limits]


class _Recording:
    """A policy that notes what it was shown and what it chose."""

    def __init__(self, policy: Policy, log: list[_Decision]) -> None:
        self._policy = policy
        self._log = log
        self.name = policy.name
        self.uses_cpu = policy.uses_cpu

    def choose(self, work: Candidates) -> Choice:
        """The policy's choice."""
        rows = tuple(drawn.shown(row) for row in work.cpu_rows)
        choice = self._policy.choose(work)
        self._log.append((work._replace(cpu_rows=rows), choice))
        return choice


class _RecordingPace(_Recording):
    """The same of a policy that sets the pace."""

    def __init__(self, policy: Policy, pacing: Pacing, log: list[_Decision]) -> None:
        super().__init__(policy, log)
        self._pacing = pacing

    def limits(self, traffic: Traffic) -> Limits:
        """The policy's limits."""
        limits = self._pacing.limits(traffic)
        self._log.append((traffic, limits))
        return limits


def _recording(policy: Policy, log: list[_Decision]) -> Policy:
    if isinstance(policy, Pacing):
        return _RecordingPace(policy, policy, log)
    return _Recording(policy, log)


def blind(entry: PolicyEntry, rng: np.random.Generator) -> None:
    """Two runs that differ in output lengths alone: while all that is visible is the same, so
    are the choices.
    """
    spec = drawn.spec(rng, entry.name)
    first: list[_Decision] = []
    second: list[_Decision] = []
    for log, each in ((first, spec), (second, drawn.with_other_outputs(rng, spec))):
        wrap = partial(_recording, log=log)
        simulate(each, scheduler_type=partial(CheckedScheduler, wrap=wrap))
    for (seen, choice), (other_seen, other_choice) in zip(first, second, strict=False):
        if seen != other_seen:
            return
        if choice != other_choice:
            raise PolicyError(
                f"policy '{entry.name}' chose {choice} or {other_choice} for work that looked the "
                "same: it knows output lengths, or draws at random"
            )


LAWS = (
    PolicyLaw("choices are legal and depend on the work alone", legal),
    PolicyLaw("all that fits is served, with the books in order", served),
    PolicyLaw("requests may be cancelled at any moment", cancelled),
    PolicyLaw("equal runs are equal", repeated),
    PolicyLaw("output lengths are not known", blind),
)


def breaches(entry: PolicyEntry, seeds: range) -> Iterator[tuple[PolicyLaw, Breach | None]]:
    """Each law with its first breach; ends after the first law that is broken."""
    for law in LAWS:
        found = first_breach(entry, law, seeds)
        yield law, found
        if found is not None:
            return
