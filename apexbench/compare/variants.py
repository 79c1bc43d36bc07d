"""What is compared: a policy with what was changed from the setting's defaults.

"neo", "gpu-only+int4", "apex+belief=xeon-6342x2", "planner+hysteresis=0.1", "gpu-only+chunk256"
for max_batched_tokens=256, and "gpu-only+gpu_threads=2" where torch is the GPU: any number of
changes, in any order, each once.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from apexbench.engine.hardware import load_host
from apexbench.engine.models import WEIGHT_DTYPES
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.registry import find_policy
from apexbench.engine.simulate import thresholds_for
from apexbench.errors import UsageError, unknown_name
from apexbench.result import Variant

BASELINE = "gpu-only"
BELIEF, WEIGHTS, GPU_THREADS = "belief", "weights", "gpu_threads"
CHUNK_THRESHOLD = "max_batched_tokens"

Value = float | int | str


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A policy under its name in the report; what is None or empty is as in the setting.

    `belief` is the host whose profile the policy decides with instead of the true one,
    `gpu_threads` how many cores torch has where it is the GPU.
    """

    id: str
    entry: PolicyEntry
    weights: str | None = None
    belief: str | None = None
    gpu_threads: int | None = None
    thresholds: Mapping[str, Value] = field(default_factory=dict)

    def document(self) -> Variant:
        """As it stands in the result."""
        overrides = dict(self.thresholds)
        if self.weights is not None:
            overrides[WEIGHTS] = self.weights
        if self.belief is not None:
            overrides[BELIEF] = self.belief
        if self.gpu_threads is not None:
            overrides[GPU_THREADS] = self.gpu_threads
        if self.entry.source_sha256 is not None:
            overrides["source_sha256"] = self.entry.source_sha256
        return Variant(id=self.id, policy=self.entry.name, overrides=overrides)


def parse_variant(text: str) -> VariantSpec:
    """UsageError with near matches for unknown names, and for a change that is made twice."""
    policy, *typed = text.split("+")
    entry = find_policy(policy)
    changes = sorted(map(_brief, typed))
    values: dict[str, str] = {}
    for name, value in map(_change, changes):
        if name in values:
            raise UsageError(f"variant '{text}' sets {name} twice")
        values[name] = value
    weights, belief = values.pop(WEIGHTS, None), values.pop(BELIEF, None)
    threads = values.pop(GPU_THREADS, None)
    return VariantSpec(
        "+".join([entry.name, *changes]),
        entry,
        weights=None if weights is None else _weights(weights),
        belief=None if belief is None else load_host(belief).name,
        gpu_threads=None if threads is None else _threads(text, threads),
        thresholds={name: _threshold(entry, name, value) for name, value in values.items()},
    )


def parse_variants(names: tuple[str, ...]) -> tuple[VariantSpec, ...]:
    """All variants; the baseline comes first and is added when it was not named."""
    found = {variant.id: variant for variant in map(parse_variant, (BASELINE, *names))}
    return tuple(found.values())


def _brief(change: str) -> str:
    """max_batched_tokens=256 as chunk256: one change has one name."""
    return re.sub(rf"{CHUNK_THRESHOLD}=(\d+)", r"chunk\1", change)


def _change(change: str) -> tuple[str, str]:
    """("belief", "g5.xlarge"), ("weights", "int4"), or a threshold with its value."""
    chunk = re.fullmatch(r"chunk(\d+)", change)
    if chunk:
        return CHUNK_THRESHOLD, chunk[1]
    name, sign, value = change.partition("=")
    return (name, value) if sign else (WEIGHTS, change)


def _weights(name: str) -> str:
    if name not in WEIGHT_DTYPES:
        raise unknown_name("weight dtype", name, WEIGHT_DTYPES)
    return name


def _threads(variant: str, count: str) -> int:
    if not count.isdecimal() or int(count) < 1:
        raise UsageError(f"variant '{variant}': {GPU_THREADS} must be a whole number of at least 1")
    return int(count)


def _threshold(entry: PolicyEntry, name: str, text: str) -> Value:
    """As a number where it is one; a threshold the policy does not listen to changes nothing."""
    value: Value = getattr(thresholds_for(entry.name, {name: text}), name)
    if name not in entry.thresholds:
        raise UsageError(
            f"policy {entry.name} does not listen to threshold {name}; it listens to "
            f"{', '.join(entry.thresholds)}"
        )
    return value
