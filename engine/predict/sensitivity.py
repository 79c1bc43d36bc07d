"""How durations depend on constants and resources, by asking the cost code twice. Knows no op."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import get_args

from apexbench.engine.predict.machine import RESOURCES, Machine, faster, scaled
from apexbench.engine.profile_files import Constant
from apexbench.result import Kind

Durations = Mapping[str, float]

# Relative step of the two questions: small against any curvature of the cost model, large against
# durations in whole nanoseconds.
_STEP = 0.01
# A duration rests on a constant if changing it by 1 moves the duration by at least this share.
_MATTERS = 0.01
# From the best provenance to the worst.
_TRUST: tuple[Kind, ...] = ("measured", "datasheet", "anchored", "inferred")
assert set(_TRUST) == set(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Reliance:
    """A constant that a duration rests on: d(ln duration) / d(ln constant) is `elasticity`."""

    constant: str
    kind: Kind
    sigma: float
    elasticity: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """How sure a duration is. `kind` is the worst kind among the constants it rests on.

    `sigma` is relative: the root of the summed squares of sigma x elasticity, constants taken as
    independent. `worst` names the constants of that kind; None where it rests on nothing.
    """

    kind: Kind | None
    sigma: float
    worst: tuple[str, ...]
    rests_on: tuple[Reliance, ...]


def provenances(
    machine: Machine, durations_of: Callable[[Machine], Durations]
) -> dict[str, Provenance]:
    """The provenance of every duration that `durations_of` names."""
    base = durations_of(machine)
    reliances: dict[str, list[Reliance]] = {name: [] for name in base}
    for key, constant in machine.constants().items():
        if not constant.value:
            continue
        slower, quicker = (
            durations_of(scaled(machine, {key: factor})) for factor in (1 - _STEP, 1 + _STEP)
        )
        for name, seconds in base.items():
            if seconds > 0:
                slope = (quicker[name] - slower[name]) / (2 * _STEP * seconds)
                reliances[name].append(_reliance(machine, key, constant, slope))
    return {name: _provenance(found) for name, found in reliances.items()}


def resource_shares(machine: Machine, duration_of: Callable[[Machine], float]) -> dict[str, float]:
    """Which share of a duration each resource answers for; the largest is the bottleneck.

    The share is what making the resource a little faster would save, relative to it. Shares add
    up to one because durations scale inversely with the speed of everything.
    """
    only = resource_shares_by_name(machine, lambda other: {"": duration_of(other)})
    return only[""]


def resource_shares_by_name(
    machine: Machine, durations_of: Callable[[Machine], Durations]
) -> dict[str, dict[str, float]]:
    """The same for every duration that `durations_of` names, those of zero left out."""
    base = {name: seconds for name, seconds in durations_of(machine).items() if seconds > 0}
    shares: dict[str, dict[str, float]] = {name: {} for name in base}
    for resource in RESOURCES:
        slower, quicker = (
            durations_of(faster(machine, resource, by)) for by in (1 - _STEP, 1 + _STEP)
        )
        for name, seconds in base.items():
            shares[name][resource] = (slower[name] - quicker[name]) / (2 * _STEP * seconds)
    return shares


def _reliance(machine: Machine, key: str, constant: Constant, elasticity: float) -> Reliance:
    role, _, name = key.partition(".")
    device = getattr(machine.deployment, role).name
    return Reliance(f"{device}.{name}", constant.kind, constant.sigma, elasticity)


def _provenance(reliances: list[Reliance]) -> Provenance:
    sigma = math.hypot(*(r.sigma * r.elasticity for r in reliances))
    matter = [r for r in reliances if abs(r.elasticity) >= _MATTERS]
    matter.sort(key=lambda r: (-abs(r.sigma * r.elasticity), r.constant))
    if not matter:
        return Provenance(None, sigma, (), ())
    worst = max((r.kind for r in matter), key=_TRUST.index)
    names = tuple(r.constant for r in matter if r.kind == worst)
    return Provenance(worst, sigma, names, tuple(matter))
