"""What is known of a policy before one is made. Makes none itself."""

from collections.abc import Callable
from dataclasses import dataclass

from apexbench.engine.policies.base import Policy, PolicyContext

# Thresholds that the scheduler itself obeys, whatever the policy does with the others.
COMMON = ("max_batched_tokens", "max_running_rows", "gpu_kv_watermark")
SCHEDULED_HYBRID = (*COMMON, "swap_in_fraction")
SCHEDULED_DEFERRING = (
    *SCHEDULED_HYBRID,
    *("max_deferred_rows", "join_mode", "max_missed_polls", "max_frozen_steps"),
)

HYBRID = (*SCHEDULED_HYBRID, "min_cpu_rows")
DEFERRING = (*SCHEDULED_DEFERRING, "min_cpu_rows", "max_deferred_cohorts")


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What users see of a policy, and how to make one.

    `defers` sets memory aside for deferred rows. `keeps_kv_on_host` sends every prompt to the
    host tier and brings no row back; only what the host pool cannot hold stays on the GPU.
    `source_sha256` identifies the file of a policy that is not part of this package.
    """

    name: str
    summary: str
    strategies: tuple[str, ...]
    thresholds: tuple[str, ...]
    make: Callable[[PolicyContext], Policy]
    uses_cpu: bool = True
    defers: bool = False
    keeps_kv_on_host: bool = False
    source_sha256: str | None = None
