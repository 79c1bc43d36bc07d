"""The backends of `compare`, and what is asked for there when nobody says; runs none of them."""

from collections.abc import Mapping

BACKENDS = ("sim", "emulated", "cpu", "cuda")
REAL_TIME = frozenset({"emulated", "cpu"})
"""Backends whose runs take as long as they say: one at a time, and few of them by default."""

# Saturation alone: a backlog tells policies apart in minutes, rates need as long again for each.
_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "emulated": {"rate": ("inf",), "policies": ("gpu-only", "apex", "planner")},
    "cpu": {
        "rate": ("inf",),
        "policies": ("gpu-only", "static:deferred", "apex", "planner"),
        "workload": "fixed:64/64",
    },
}


def backend_values(backend: object) -> Mapping[str, object]:
    """Values of configuration keys that a backend has instead of the general defaults."""
    return _DEFAULTS.get(backend, {}) if isinstance(backend, str) else {}
