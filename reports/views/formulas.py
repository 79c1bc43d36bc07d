"""How every metric is defined here; tools disagree, so a report says it."""

from collections.abc import Iterator

from apexbench.reports.outcome import Outcome
from apexbench.reports.panels import Panel, Table, View

_FORMULAS = (
    ("TTFT", "first token - scheduled arrival", "so that waiting in any queue counts"),
    ("TPOT", "(end - first token) / (output tokens - 1)", "requests with two or more tokens"),
    ("ITL", "time between two successive tokens of a request", "every gap counts once"),
    ("E2E", "end - scheduled arrival", "completed requests"),
    ("latency per token", "E2E / output tokens", "as the hybrid papers plot it"),
    (
        "tier of a request",
        "where more than half of its decode tokens were made",
        "a tier is compared with all requests of gpu-only, which has no CPU tier",
    ),
    ("output throughput", "output tokens in the window / window", "warm-up left out"),
    (
        "goodput",
        "requests that meet every SLO / window",
        "failed requests do not meet it; cancelled ones are left out",
    ),
    ("SLO attainment", "requests that meet every SLO / requests that count", "same rules"),
    ("saturation", "all requests wait at t = 0", "the highest rate a policy can sustain"),
    (
        "0.8x load",
        "0.8 of gpu-only's request rate at saturation",
        "the same absolute rate for every policy",
    ),
    (
        "ratio",
        "geometric mean over seeds of candidate / gpu-only",
        "95 % interval from a t distribution on log ratios, paired by seed",
    ),
    (
        "significant",
        "the interval lies wholly on one side of 1",
        "with one seed nothing is significant",
    ),
)


def build(outcome: Outcome) -> Iterator[Panel]:  # noqa: ARG001 - the same for every result
    """One table."""
    table = Table(("metric", "definition", "note"), _FORMULAS)
    yield Panel("formulas-all", "Definitions", "All times are in seconds.", table, is_wide=True)


VIEW = View(
    id="formulas",
    title="How metrics are defined",
    lead="TTFT, TPOT and goodput mean different things in different tools; here they mean this.",
    place="more",
    build=build,
)
