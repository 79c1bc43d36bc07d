"""Everything one run of the bench found, as the JSON document; measures and prints nothing."""

import json
from dataclasses import dataclass, field
from typing import Any

from apexbench.cpu_kernels.bench.samples import VOID_RATIO

Row = dict[str, Any]
SCHEMA_VERSION = 1
# Medians and quartiles bear a few disturbed passes.
NOTEWORTHY_PREEMPTION = 0.2


@dataclass(slots=True)
class Findings:
    """Filled section by section, so that what is done survives an interruption."""

    circumstances: dict[str, Any]
    read_limits: dict[int, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    comparisons: list[Row] = field(default_factory=list)
    small_jobs: list[Row] = field(default_factory=list)
    mixes: list[Row] = field(default_factory=list)
    overheads: list[Row] = field(default_factory=list)
    peers: list[Row] = field(default_factory=list)
    # Why the run ended early; None when everything was measured.
    ended_early: str | None = "interrupted"

    @property
    def void_rows(self) -> list[Row]:
        """Measurements faster than memory can be read."""
        return [row for row in (*self.rows, *self.peers) if row.get("is_void")]

    @property
    def is_valid(self) -> bool:
        """Whether the read limit was one."""
        return not self.void_rows

    @property
    def preempted_share(self) -> float:
        """Of all passes, those during which the system gave a CPU to somebody else."""
        rows = [row for row in (*self.rows, *self.peers) if "repeats" in row]
        repeats = sum(row["repeats"] for row in rows)
        return sum(row["preempted_repeats"] for row in rows) / repeats if repeats else 0.0

    def warnings(self) -> list[str]:
        """One sentence each."""
        found = []
        if not self.is_valid:
            worst = max(row["ratio_to_read_limit"] for row in self.void_rows)
            found.append(
                f"this run is void: {len(self.void_rows)} measurements exceed the read limit by"
                f" more than {VOID_RATIO - 1:.0%} (at most {worst:.3f} of it); end other programs"
                " and run it again"
            )
        if self.preempted_share > NOTEWORTHY_PREEMPTION:
            found.append(
                f"other programs took a CPU during {self.preempted_share:.0%} of the passes, whose"
                " rates are too low"
            )
        if self.ended_early is not None:
            found.append(f"{self.ended_early}: what was not measured is missing")
        return found

    def to_json(self) -> str:
        """The document; units live in the names, GB are 10^9 bytes."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "kind": "cpu_attention_bench",
            "is_valid": self.is_valid,
            "is_complete": self.ended_early is None,
            "warnings": self.warnings(),
            "preempted_share": self.preempted_share,
            "circumstances": self.circumstances,
            "read_limit_gbps": {
                str(threads): found["gbps"] for threads, found in self.read_limits.items()
            },
            "read_limits": {str(threads): found for threads, found in self.read_limits.items()},
            "rows": self.rows,
            "comparisons": self.comparisons,
            "small_jobs": self.small_jobs,
            "mixes": self.mixes,
            "overheads": self.overheads,
            "peers": self.peers,
        }
        return json.dumps(document, indent=2, allow_nan=False) + "\n"
