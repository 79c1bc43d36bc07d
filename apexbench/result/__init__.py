"""The result document: what a comparison found, versioned, with every circumstance it needs.

One JSON file. Times are seconds, rates per second, units stand in the names; what does not apply
is null. `load()` turns it into tidy pandas DataFrames, the same ones the report tables use.
"""

from apexbench.result.base import Document, Kind, Verdict
from apexbench.result.document import (
    SCHEMA_VERSION,
    Environment,
    Result,
    json_schema,
    parse,
    read,
    to_json,
)
from apexbench.result.findings import Comparison, Sensitivity, Sweep, SweepPoint
from apexbench.result.frames import REQUESTS_FILE, Frames, frames, load
from apexbench.result.measured import Measured, Spread, StepTimes
from apexbench.result.runs import (
    Decision,
    Draws,
    Lanes,
    Metrics,
    Prediction,
    Quantiles,
    Run,
    Series,
    Span,
    StepTrace,
    TierLatency,
    Timeline,
    Window,
)
from apexbench.result.settings import (
    DeviceConstant,
    LengthSummary,
    Setting,
    Slo,
    Variant,
    WorkloadSummary,
)

__all__ = [
    "REQUESTS_FILE",
    "SCHEMA_VERSION",
    "Comparison",
    "Decision",
    "DeviceConstant",
    "Document",
    "Draws",
    "Environment",
    "Frames",
    "Kind",
    "Lanes",
    "LengthSummary",
    "Measured",
    "Metrics",
    "Prediction",
    "Quantiles",
    "Result",
    "Run",
    "Sensitivity",
    "Series",
    "Setting",
    "Slo",
    "Span",
    "Spread",
    "StepTimes",
    "StepTrace",
    "Sweep",
    "SweepPoint",
    "TierLatency",
    "Timeline",
    "Variant",
    "Verdict",
    "Window",
    "WorkloadSummary",
    "frames",
    "json_schema",
    "load",
    "parse",
    "read",
    "to_json",
]
