"""What `--sweep` may vary and over which values: from its text to points; runs nothing."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

from apexbench.compare.scenarios import Placement, Scenario, varied
from apexbench.compare.variants import VariantSpec
from apexbench.config import CompareConfig
from apexbench.engine.deployment import Deployment
from apexbench.errors import UsageError, unknown_name

KV_TOKENS = "gpu_kv_tokens"
UTILIZATION = "gpu_memory_utilization"
CPU_RATE = "cpu_attention_gbps"
OUTPUT_SCALE = "output_scale"
_BYTES_PER_GB = 1e9
# A map on paper has two axes; a third would also multiply the number of runs once more.
MAX_PARAMETERS = 2

Values = Mapping[str, float]  # parameter -> value at one point


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something to vary. `nominal` reads what a scenario has without the sweep."""

    nominal: Callable[[Scenario], float]
    is_whole: bool = False


# Keys of the configuration, thresholds of the scheduler, and two that are neither.
_CONFIG_KEYS: Mapping[str, Parameter] = {
    KV_TOKENS: Parameter(lambda s: s.baseline.capacity.gpu_kv_tokens, is_whole=True),
    UTILIZATION: Parameter(lambda s: s.baseline.deployment.gpu_memory_utilization),
    "cpu_threads": Parameter(lambda s: s.baseline.deployment.cpu_threads, is_whole=True),
}
_THRESHOLDS: Mapping[str, Parameter] = {
    "max_batched_tokens": Parameter(
        lambda s: s.baseline.thresholds.max_batched_tokens, is_whole=True
    ),
    "max_running_rows": Parameter(lambda s: s.baseline.thresholds.max_running_rows, is_whole=True),
}
PARAMETERS: Mapping[str, Parameter] = {
    **_CONFIG_KEYS,
    **_THRESHOLDS,
    CPU_RATE: Parameter(
        lambda s: s.baseline.deployment.host_ops().kernel_bytes_per_s / _BYTES_PER_GB
    ),
    OUTPUT_SCALE: Parameter(lambda _: 1.0),
}


@dataclass(frozen=True, slots=True)
class Grid:
    """One or two parameters and the values of each, as typed."""

    text: str
    axes: Mapping[str, tuple[float, ...]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names, in the order of the values of a point."""
        return tuple(self.axes)

    def points(self) -> tuple[Values, ...]:
        """Every combination; the last parameter varies fastest."""
        combinations = product(*self.axes.values())
        return tuple(dict(zip(self.axes, values, strict=True)) for values in combinations)


def parse_grids(config: CompareConfig) -> tuple[Grid, ...]:
    """What the configuration asks to sweep. UsageError in one sentence for anything wrong."""
    grids = tuple(map(parse_grid, config.sweep))
    seen: set[frozenset[str]] = set()
    for grid in grids:
        if frozenset(grid.parameters) in seen:
            raise UsageError(
                f"sweep '{grid.text}' varies what another one does; give all values in one"
            )
        seen.add(frozenset(grid.parameters))
        _check_effect(grid, config)
    return grids


def parse_grid(text: str) -> Grid:
    """The grid of "NAME=VALUE,VALUE" or of two such joined by "/"."""
    parts = text.split("/")
    if len(parts) > MAX_PARAMETERS:
        raise UsageError(
            f"sweep '{text}' crosses {len(parts)} parameters; at most {MAX_PARAMETERS} can be"
            " crossed, in NAME=VALUE,VALUE/NAME=VALUE,VALUE"
        )
    axes: dict[str, tuple[float, ...]] = {}
    for part in parts:
        name, _, values = (piece.strip() for piece in part.partition("="))
        if name not in PARAMETERS:
            raise unknown_name("sweep key", name, PARAMETERS)
        if name in axes:
            raise UsageError(f"sweep '{text}' crosses {name} with itself; name two parameters")
        axes[name] = _values(name, values)
    return Grid(text, axes)


def in_words(values: Values) -> str:
    """ "gpu_kv_tokens=864, cpu_attention_gbps=12.5"."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in values.items())


def scenario_at(
    scenario: Scenario, config: CompareConfig, variants: tuple[VariantSpec, ...], values: Values
) -> Scenario:
    """The scenario with other values; UsageError or InputError where it cannot have them."""
    moved = varied(scenario, _config_at(config, values), variants)
    rate = values.get(CPU_RATE)
    if rate is None:
        return moved
    placements = tuple(_at_rate(placement, rate * _BYTES_PER_GB) for placement in moved.placements)
    return replace(moved, placements=placements)


def _values(name: str, text: str) -> tuple[float, ...]:
    values = tuple(_value(name, item.strip()) for item in text.split(",") if item.strip())
    if not values:
        raise UsageError(f"sweep of {name} has no values; write {name}=VALUE,VALUE,...")
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice is not None:
        raise UsageError(f"sweep of {name} has the value {_plain(twice)} twice; give each once")
    return values


def _value(name: str, text: str) -> float:
    """A positive finite number, a whole one where the parameter counts something."""
    is_whole = PARAMETERS[name].is_whole
    kind = "a positive whole number" if is_whole else "a positive number"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0) or (is_whole and value != int(value)):
        raise UsageError(f"value '{text}' in the sweep of {name} is not {kind}")
    return int(value) if is_whole else value


def _check_effect(grid: Grid, config: CompareConfig) -> None:
    """A stated capacity does not depend on the memory: the sweep would be a flat line."""
    is_stated = config.gpu_kv_tokens is not None or KV_TOKENS in grid.axes
    if UTILIZATION in grid.axes and is_stated:
        raise UsageError(
            f"sweep '{grid.text}': {UTILIZATION} changes nothing while {KV_TOKENS} is given;"
            " leave one of them out"
        )


def _plain(value: float) -> str:
    return repr(value).removesuffix(".0")


def _config_at(config: CompareConfig, values: Values) -> CompareConfig:
    keys = {name: value for name, value in values.items() if name in _CONFIG_KEYS}
    thresholds = {name: value for name, value in values.items() if name in _THRESHOLDS}
    changes = {**keys, "thresholds": {**config.thresholds, **thresholds}}
    return config.model_copy(update=changes)


def _at_rate(placement: Placement, bytes_per_s: float) -> Placement:
    """Whoever takes the host for another one goes on believing in that one's rate."""
    deployment = _stated(placement.deployment, bytes_per_s)
    is_candid = placement.variant.belief is None
    belief = deployment if is_candid else placement.belief
    return replace(placement, hardware=deployment, belief=belief)


def _stated(deployment: Deployment, bytes_per_s: float) -> Deployment:
    return replace(deployment, cpu_attention_bytes_per_s=bytes_per_s)
