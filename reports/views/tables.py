"""Comparisons of all requests and every run, from the tables that `apexbench.load` gives."""

from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from apexbench.reports.outcome import Outcome
from apexbench.reports.panels import Panel, Table, View, nothing
from apexbench.reports.tpot_target import OVER, TPOT_P90
from apexbench.reports.wording import MISSING, THIN, count, describe, interval, number, times
from apexbench.result import frames

if TYPE_CHECKING:
    import pandas as pd

_RUN_COLUMNS = {
    "scenario": "scenario",
    "rate_label": "rate",
    "variant": "policy",
    "seed": "seed",
    "output_throughput_tok_s": "out tok/s",
    "request_throughput_rps": "req/s",
    "goodput_rps": "goodput/s",
    "slo_attainment": "SLO met",
    "ttft_p50_s": "TTFT p50 s",
    "tpot_p50_s": "TPOT p50 s",
    "tpot_p90_s": "TPOT p90 s",
    "slo_tpot_s": "TPOT target s",
    "tpot_p99_s": "TPOT p99 s",
    "e2e_p50_s": "E2E p50 s",
    "completed": "completed",
    "failed": "failed",
    "unfinished": "unfinished",
    "gpu_kv_tokens": "GPU KV tokens",
    "cpu_kv_tokens": "CPU KV tokens",
    "is_steady": "steady",
}


def build(outcome: Outcome) -> Iterator[Panel]:
    """Comparisons, runs and failures, folded away."""
    if not outcome.result.runs:
        yield nothing("tables", None, "Runs", "no run has finished.")
        return
    tables = frames(outcome.result)
    if not tables.comparisons.empty:
        hint = (
            "Ratio of candidate to gpu-only, geometric mean over seeds paired by seed. Those of "
            "single tiers stand under latency at every rate, and in comparisons.csv."
        )
        table = _comparisons(outcome)
        yield Panel("tables-comparisons", "Comparisons", hint, table, is_wide=True, is_folded=True)
    hint = f"One row per policy, rate and seed. {OVER}: TPOT p90 above its target."
    yield Panel("tables-runs", "Runs", hint, _runs(tables.runs), is_wide=True, is_folded=True)
    failures = _failures(outcome)
    if failures.rows:
        hint = "Requests that were not served, by reason."
        yield Panel("tables-failures", "Failures", hint, failures, is_wide=True)


def _comparisons(outcome: Outcome) -> Table:
    settings = {setting.id: setting for setting in outcome.result.settings}
    rows = tuple(
        (
            settings[c.setting].scenario,
            settings[c.setting].rate_label,
            c.candidate,
            c.baseline,
            describe(c.metric).name,
            times(c.ratio),
            interval(c.ci_low, c.ci_high),
            str(c.n),
            c.verdict.replace("_", " "),
        )
        for c in outcome.result.comparisons
        if "_tier_" not in c.metric  # more than all others together
    )
    columns = (
        "scenario", "rate", "candidate", "baseline", "metric", "ratio", "95 % interval", "n",
        "verdict",
    )  # fmt: skip
    return Table(columns, rows, frozenset({5, 6, 7}))


def _runs(runs: "pd.DataFrame") -> Table:
    known = [name for name in _RUN_COLUMNS if name in runs.columns]
    records = runs[known].to_dict("records")
    rows = tuple(tuple(_cell(record, name) for name in known) for record in records)
    numeric = frozenset(range(3, len(known) - 1))
    return Table(tuple(_RUN_COLUMNS[name] for name in known), rows, numeric)


def _cell(record: Mapping[Any, Any], name: str) -> str:
    """The pace is marked: no target and no p90 compare as not above."""
    is_over = name == TPOT_P90 and (record[name] or 0.0) > (record["slo_tpot_s"] or inf)
    return f"{_text(record[name])}{THIN}{OVER}" if is_over else _text(record[name])


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value != value:
        return MISSING
    if isinstance(value, int):
        return count(value)
    return number(value) if isinstance(value, float) else str(value)


def _failures(outcome: Outcome) -> Table:
    rows = tuple(
        (run.setting, run.variant, str(run.seed), reason, count(num))
        for run in outcome.result.runs
        for reason, num in run.failures.items()
    )
    return Table(("setting", "policy", "seed", "reason", "requests"), rows, frozenset({4}))


VIEW = View(
    id="tables",
    title="All numbers",
    lead="The same tables as runs.csv and comparisons.csv.",
    place="more",
    build=build,
)
