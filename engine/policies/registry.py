"""Policies by name."""

from collections.abc import Callable
from dataclasses import dataclass

from apexbench.engine.policies.apex import Apex
from apexbench.engine.policies.base import Policy, PolicyContext
from apexbench.engine.policies.gpu_only import GpuOnly
from apexbench.engine.policies.neo import Neo
from apexbench.engine.policies.static import StaticDeferred, StaticInLayer, StaticTwoBatch
from apexbench.errors import unknown_name


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What users see of a policy, and how to make one."""

    name: str
    summary: str
    strategies: tuple[str, ...]
    thresholds: tuple[str, ...]
    make: Callable[[PolicyContext], Policy]
    uses_cpu: bool = True
    defers: bool = False


_COMMON = ("max_batched_tokens", "max_running_rows", "gpu_kv_watermark")
_HYBRID = (*_COMMON, "swap_in_fraction", "min_cpu_rows")
_DEFERRING = (
    *_HYBRID,
    *("max_deferred_cohorts", "max_deferred_rows", "join_mode", "max_missed_polls"),
    "max_frozen_steps",
)

_ENTRIES = (
    PolicyEntry(
        "gpu-only",
        "everything on the GPU, preemption by recompute (the baseline)",
        ("gpu_only",),
        _COMMON,
        GpuOnly,
        uses_cpu=False,
    ),
    PolicyEntry(
        "neo",
        "asymmetric pipelining of two sub-batches when it serves more requests per GPU time",
        ("gpu_only", "two_batch"),
        (*_COMMON, "swap_in_fraction", "launch_overhead_s", "linear_rows_threshold"),
        Neo,
    ),
    PolicyEntry(
        "apex",
        "the published inequality picks two sub-batches or deferred CPU attention, literally",
        ("gpu_only", "two_batch", "deferred", "fused"),
        (*_DEFERRING, "offload_gain_margin", "two_batch_bias"),
        Apex,
        defers=True,
    ),
    PolicyEntry(
        "static:deferred",
        "always defer CPU attention by one step, in several cohorts",
        ("deferred",),
        _DEFERRING,
        StaticDeferred,
        defers=True,
    ),
    PolicyEntry(
        "static:two_batch",
        "always two sub-batches while CPU rows are free",
        ("two_batch",),
        _HYBRID,
        StaticTwoBatch,
    ),
    PolicyEntry(
        "static:in_layer",
        "always one batch; CPU rows join in the same layer",
        ("in_layer",),
        _HYBRID,
        StaticInLayer,
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}


def list_policies() -> tuple[PolicyEntry, ...]:
    """All policies, baseline first."""
    return _ENTRIES


def find_policy(name: str) -> PolicyEntry:
    """A policy by name. UsageError with near matches otherwise."""
    entry = _BY_NAME.get(name)
    if entry is None:
        raise unknown_name("policy", name, _BY_NAME)
    return entry
