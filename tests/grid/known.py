"""Cells in which the planner is known to miss, with the reason. An empty table is the aim."""

from collections.abc import Mapping

# (GPU, workload, load) -> why
KNOWN_MISSES: Mapping[tuple[str, str, str], str] = {
    ("a10", "osc", "inf"): "600 requests are too few: planner fills the pool in portions that keep "
    "the TPOT target; with 2400 it gives 412.5 of 416.4 tok/s, both steady",
}
