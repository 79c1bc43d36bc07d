"""What is compared: a policy with what was changed from the setting's defaults.

"neo", "gpu-only+int4", "apex+belief=xeon-6342x2", "gpu-only+max_batched_tokens=256": any number of
changes, in any order, each once.
"""

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
BELIEF = "belief"

Value = float | int | str


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A policy under its name in the report; what is None or empty is as in the setting.

    `belief` is the host whose profile the policy decides with instead of the true one.
    """

    id: str
    entry: PolicyEntry
    weights: str | None = None
    belief: str | None = None
    thresholds: Mapping[str, Value] = field(default_factory=dict)

    def document(self) -> Variant:
        """As it stands in the result."""
        overrides = dict(self.thresholds)
        if self.weights is not None:
            overrides["weights"] = self.weights
        if self.belief is not None:
            overrides[BELIEF] = self.belief
        if self.entry.source_sha256 is not None:
            overrides["source_sha256"] = self.entry.source_sha256
        return Variant(id=self.id, policy=self.entry.name, overrides=overrides)


def parse_variant(text: str) -> VariantSpec:
    """UsageError with near matches for unknown names, and for a change that is made twice."""
    policy, *changes = text.split("+")
    entry = find_policy(policy)
    weights = belief = None
    thresholds: dict[str, Value] = {}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign:
            _refuse_second(text, "weights", weights)
            weights = _weights(change)
        elif name == BELIEF:
            _refuse_second(text, BELIEF, belief)
            belief = load_host(value).name
        else:
            _refuse_second(text, name, thresholds.get(name))
            thresholds[name] = _threshold(entry, name, value)
    return VariantSpec("+".join([entry.name, *sorted(changes)]), entry, weights, belief, thresholds)


def parse_variants(names: tuple[str, ...]) -> tuple[VariantSpec, ...]:
    """All variants; the baseline comes first and is added when it was not named."""
    found = {variant.id: variant for variant in map(parse_variant, (BASELINE, *names))}
    return tuple(found.values())


def _weights(name: str) -> str:
    if name not in WEIGHT_DTYPES:
        raise unknown_name("weight dtype", name, WEIGHT_DTYPES)
    return name


def _threshold(entry: PolicyEntry, name: str, text: str) -> Value:
    """As a number where it is one; a threshold the policy does not listen to changes nothing."""
    value: Value = getattr(thresholds_for(entry.name, {name: text}), name)
    if name not in entry.thresholds:
        raise UsageError(
            f"policy {entry.name} does not listen to threshold {name}; it listens to "
            f"{', '.join(entry.thresholds)}"
        )
    return value


def _refuse_second(text: str, name: str, present: object) -> None:
    if present is not None:
        raise UsageError(f"variant '{text}' sets {name} twice")
