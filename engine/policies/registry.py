"""Policies by name: the registered ones, and a user's by its import path."""

from apexbench.engine.policies.apex import Apex
from apexbench.engine.policies.entry import COMMON, DEFERRING, HYBRID, PolicyEntry
from apexbench.engine.policies.fastdecode import FastDecode
from apexbench.engine.policies.gpu_only import GpuOnly
from apexbench.engine.policies.loading import is_import_path, load_policy
from apexbench.engine.policies.neo import Neo
from apexbench.engine.policies.planner import Planner
from apexbench.engine.policies.static import StaticDeferred, StaticInLayer, StaticTwoBatch
from apexbench.errors import unknown_name

_ENTRIES = (
    PolicyEntry(
        "gpu-only",
        "everything on the GPU, preemption by recompute (the baseline)",
        ("gpu_only",),
        COMMON,
        GpuOnly,
        uses_cpu=False,
    ),
    PolicyEntry(
        "fastdecode",
        "all decode attention on the CPU; two equal sub-batches alternate, the GPU keeps no KV",
        ("gpu_only", "in_layer", "two_batch"),
        COMMON,
        FastDecode,
        keeps_kv_on_host=True,
    ),
    PolicyEntry(
        "neo",
        "asymmetric pipelining of two sub-batches when it serves more requests per GPU time",
        ("gpu_only", "two_batch"),
        (*COMMON, "swap_in_fraction", "launch_overhead_s", "linear_rows_threshold"),
        Neo,
    ),
    PolicyEntry(
        "apex",
        "the published inequality picks two sub-batches or deferred CPU attention, literally",
        ("gpu_only", "two_batch", "deferred", "fused"),
        (*DEFERRING, "offload_gain_margin", "two_batch_bias"),
        Apex,
        defers=True,
    ),
    PolicyEntry(
        "planner",
        "costs every mixture and takes the best token rate that keeps the targets (ours)",
        ("gpu_only", "in_layer", "two_batch", "deferred", "fused"),
        (*DEFERRING, "offload_gain_margin", "max_in_layer_rows", "hysteresis"),
        Planner,
        defers=True,
    ),
    PolicyEntry(
        "static:deferred",
        "always defer CPU attention by one step, in several cohorts",
        ("deferred",),
        DEFERRING,
        StaticDeferred,
        defers=True,
    ),
    PolicyEntry(
        "static:two_batch",
        "always two sub-batches while CPU rows are free",
        ("two_batch",),
        HYBRID,
        StaticTwoBatch,
    ),
    PolicyEntry(
        "static:in_layer",
        "always one batch; CPU rows join in the same layer",
        ("in_layer",),
        HYBRID,
        StaticInLayer,
    ),
)
_BY_NAME = {entry.name: entry for entry in _ENTRIES}
# What stands before ":" in registered names: never taken for a user's module.
_FAMILIES = {name.partition(":")[0] for name in _BY_NAME if ":" in name}


def list_policies() -> tuple[PolicyEntry, ...]:
    """All policies, baseline first."""
    return _ENTRIES


def find_policy(name: str) -> PolicyEntry:
    """A policy by name, or a user's by import path such as `mypkg.mymodule:MyPolicy`.

    UsageError with near matches for an unknown name; what `load_policy` raises for a path.
    """
    entry = _BY_NAME.get(name)
    if entry is not None:
        return entry
    if not is_import_path(name) or name.partition(":")[0] in _FAMILIES:
        raise unknown_name("policy", name, _BY_NAME)
    return load_policy(name, frozenset(_BY_NAME))
