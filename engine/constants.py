"""The constants of a deployment by role and name: reading them, replacing some. No formula."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from apexbench.engine.deployment import Deployment
from apexbench.engine.hardware import AnyProfile
from apexbench.engine.profile_files import Constant

ROLES = ("gpu", "host", "cpu_kernel")


def constants_of(deployment: Deployment) -> dict[str, Constant]:
    """All constants such as "gpu.dram_gb_per_s", by role and in the order of the profiles."""
    found = {}
    for role in ROLES:
        profile = getattr(deployment, role)
        for spec in fields(profile):
            if isinstance(constant := getattr(profile, spec.name), Constant):
                found[f"{role}.{spec.name}"] = constant
    return found


def with_constants(deployment: Deployment, values: Mapping[str, float]) -> Deployment:
    """The deployment with other values of the named constants; unknown names are skipped."""
    return replace(
        deployment,
        gpu=_changed(deployment.gpu, "gpu", values),
        host=_changed(deployment.host, "host", values),
        cpu_kernel=_changed(deployment.cpu_kernel, "cpu_kernel", values),
    )


def _changed(profile: AnyProfile, role: str, values: Mapping[str, float]) -> AnyProfile:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        owner, _, name = key.partition(".")
        constant = getattr(profile, name, None) if owner == role else None
        if isinstance(constant, Constant):
            changes[name] = replace(constant, value=value)
    return replace(profile, **changes)
