"""What is compared: a policy, optionally with other weights ("gpu-only+int4")."""

from dataclasses import dataclass

from apexbench.engine.models import WEIGHT_DTYPES
from apexbench.engine.policies.registry import PolicyEntry, find_policy
from apexbench.errors import unknown_name
from apexbench.result import Variant

BASELINE = "gpu-only"


@dataclass(frozen=True, slots=True)
class VariantSpec:
    """A policy under its name in the report; `weights` None means the scenario's."""

    id: str
    entry: PolicyEntry
    weights: str | None = None

    def document(self) -> Variant:
        """As it stands in the result."""
        overrides: dict[str, float | int | str] = {}
        if self.weights is not None:
            overrides["weights"] = self.weights
        return Variant(id=self.id, policy=self.entry.name, overrides=overrides)


def parse_variant(text: str) -> VariantSpec:
    """ "neo" or "gpu-only+int4"; UsageError with near matches for unknown names."""
    policy, plus, weights = text.partition("+")
    entry = find_policy(policy)
    if not plus:
        return VariantSpec(entry.name, entry)
    if weights not in WEIGHT_DTYPES:
        raise unknown_name("weight dtype", weights, WEIGHT_DTYPES)
    return VariantSpec(f"{entry.name}+{weights}", entry, weights)


def parse_variants(names: tuple[str, ...]) -> tuple[VariantSpec, ...]:
    """All variants; the baseline comes first and is added when it was not named."""
    found = {variant.id: variant for variant in map(parse_variant, (BASELINE, *names))}
    return tuple(found.values())
