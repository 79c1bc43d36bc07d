"""Cells in which the planner is known to miss, with the reason. An empty table is the aim."""

from collections.abc import Mapping

# (GPU, workload, load) -> why
KNOWN_MISSES: Mapping[tuple[str, str, str], str] = {}
