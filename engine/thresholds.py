"""The scheduler's tunable thresholds: defaults, legal ranges, and which policies listen to them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from apexbench.errors import UsageError, unknown_name

JoinMode = Literal["wait", "poll"]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One value per threshold; times in seconds. None = chosen by the policy or by memory."""

    max_batched_tokens: int = 2048
    max_running_rows: int = 256  # sequences in flight, on both tiers together
    gpu_kv_watermark: float = 0.02  # share of blocks that admission leaves free
    swap_in_fraction: float = 0.95
    launch_overhead_s: float = 0.8e-3
    linear_rows_threshold: int = 128
    offload_gain_margin: float = 0.0
    two_batch_bias: float = 1.0
    min_cpu_rows: int = 1
    max_deferred_cohorts: int | None = None
    max_deferred_rows: int | None = None
    join_mode: JoinMode = "wait"
    max_frozen_steps: int = 8  # steps a cohort may be left waiting before it is joined anyway
    max_missed_polls: int = 2
    max_in_layer_rows: int | None = None
    hysteresis: float = 0.03  # share of a step's tokens that a change of strategy must gain


@dataclass(frozen=True, slots=True)
class Range:
    """Legal values of a threshold; `is_log` is how a tuner should step through them."""

    low: float
    high: float
    is_log: bool = False
    choices: tuple[str, ...] = ()


RANGES: Mapping[str, Range] = {
    "max_batched_tokens": Range(128, 8192, is_log=True),
    "max_running_rows": Range(8, 1024, is_log=True),
    "gpu_kv_watermark": Range(0, 0.2),
    "swap_in_fraction": Range(0.6, 1.0),
    "launch_overhead_s": Range(0, 2e-3),
    "linear_rows_threshold": Range(16, 512, is_log=True),
    "offload_gain_margin": Range(0, 0.3),
    "two_batch_bias": Range(0.25, 4, is_log=True),
    "min_cpu_rows": Range(1, 64, is_log=True),
    "max_deferred_cohorts": Range(1, 256),
    "max_deferred_rows": Range(1, 1024, is_log=True),
    "join_mode": Range(0, 0, choices=("wait", "poll")),
    "max_frozen_steps": Range(1, 64, is_log=True),
    "max_missed_polls": Range(0, 8),
    "max_in_layer_rows": Range(0, 256),
    "hysteresis": Range(0, 0.2),
}


def with_overrides(base: Thresholds, overrides: Mapping[str, float | int | str]) -> Thresholds:
    """`base` with some values replaced. UsageError for unknown names and values out of range."""
    values = {name: _checked(name, value) for name, value in overrides.items()}
    return replace(base, **values)


def _checked(name: str, value: float | int | str) -> Any:
    legal = RANGES.get(name)
    if legal is None:
        raise unknown_name("threshold", name, RANGES)
    if legal.choices:
        if value not in legal.choices:
            raise UsageError(f"threshold {name} must be one of {', '.join(legal.choices)}")
        return value
    is_count = "int" in str(_TYPES[name])
    try:
        number = float(value)
    except ValueError:
        raise UsageError(f"threshold {name} must be a number, not '{value}'") from None
    if not legal.low <= number <= legal.high or (is_count and number != int(number)):
        kind = "a whole number" if is_count else "a number"
        raise UsageError(
            f"threshold {name} must be {kind} from {legal.low:g} to {legal.high:g}, not {value}"
        )
    return int(number) if is_count else number


_TYPES = {entry.name: entry.type for entry in fields(Thresholds)}
