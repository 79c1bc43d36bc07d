"""Device constants that might be the true ones, given those that are known. Simulates nothing.

The model, in words and with its reasons, stands in docs/uncertainty.md.
"""

import math
from collections.abc import Mapping

import numpy as np

from apexbench.engine.constants import ROLES, constants_of
from apexbench.engine.deployment import Deployment
from apexbench.engine.profile_files import Constant

SHARED_VARIANCE = 0.5
"""Share of a constant's variance (in logs) that is common to its device.

Binning, clocks, cooling and drivers move all speeds of a device together; how its fitted constants
err from each other does not. Nothing published separates the two, so each gets one half: with 0
errors would cancel over a step and bands be too narrow, with 1 a profile could only be wrong as a
whole.
"""

# Which way a constant of this unit goes when its device is faster than its profile. Sizes are not
# speeds, so they share nothing; units that are not listed are exact: counts and prices.
_DIRECTIONS: Mapping[str, int] = {
    "GB/s": 1,
    "TFLOP/s": 1,
    "1": 1,  # shares of a peak
    "us": -1,
    "tokens": -1,  # length at which attention reaches half of its speed
    "GiB": 0,
}
_SHARE_OF_A_PEAK = "1"


def uncertain_constants(deployment: Deployment) -> dict[str, Constant]:
    """The constants that may be otherwise: neither exact, nor zero, nor without a sigma."""
    return {key: c for key, c in constants_of(deployment).items() if _is_uncertain(c)}


def displaced(constant: Constant, deviations: float) -> float:
    """Its value that many standard deviations away: median·exp(s·z), s² = ln(1 + sigma²).

    Log-normal, so that no constant changes its sign; sigma is the relative standard deviation and
    the median is the profile's value. A share of a peak is capped at 1.
    """
    log_sigma = math.sqrt(math.log1p(constant.sigma**2))
    value = constant.value * math.exp(log_sigma * deviations)
    return min(value, 1.0) if constant.unit == _SHARE_OF_A_PEAK else value


def drawn_constants(deployment: Deployment, rng: np.random.Generator) -> dict[str, float]:
    """Values of all uncertain constants in one draw, for `with_constants`.

    z = direction·√rho·(the device's) + √(1 - rho)·(the constant's own), both standard normal and
    rho = SHARED_VARIANCE. The same generator gives the same values to every deployment on the same
    devices, whatever its model, weights or thresholds.
    """
    devices = dict(zip(ROLES, rng.standard_normal(len(ROLES)).tolist(), strict=True))
    constants = constants_of(deployment)
    own = rng.standard_normal(len(constants)).tolist()
    return {
        key: displaced(constant, _deviations(constant, devices[key.partition(".")[0]], alone))
        for (key, constant), alone in zip(constants.items(), own, strict=True)
        if _is_uncertain(constant)
    }


def _is_uncertain(constant: Constant) -> bool:
    return bool(constant.unit in _DIRECTIONS and constant.value and constant.sigma)


def _deviations(constant: Constant, device: float, alone: float) -> float:
    direction = _DIRECTIONS[constant.unit]
    if not direction:
        return alone
    shared, rest = math.sqrt(SHARED_VARIANCE), math.sqrt(1 - SHARED_VARIANCE)
    return direction * shared * device + rest * alone
