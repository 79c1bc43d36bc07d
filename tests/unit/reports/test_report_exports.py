"""Perfetto traces and CSV tables."""

import csv
import io
import json
from types import ModuleType

import pytest

from apexbench.records import LANES
from apexbench.reports import csv_tables, perfetto
from apexbench.result import Result


@pytest.fixture
def result(synthetic: ModuleType) -> Result:
    document: Result = synthetic.build(seeds=1, cases=synthetic.CASES[:1], labels=("inf",))
    return document


def test_a_process_per_run_and_a_thread_per_lane(result: Result) -> None:
    events = json.loads(perfetto.render(result))["traceEvents"]
    processes = [e for e in events if e["name"] == "process_name"]
    assert len(processes) == len({e["pid"] for e in processes}) == len(result.runs)
    for pid in {e["pid"] for e in processes}:
        lanes = [
            e["args"]["name"] for e in events if e["pid"] == pid and e["name"] == "thread_name"
        ]
        assert lanes == list(LANES)


def test_every_span_is_an_event_of_its_length(result: Result) -> None:
    events = [e for e in json.loads(perfetto.render(result))["traceEvents"] if e["ph"] == "X"]
    spans = [span for run in result.runs if run.timeline for span in run.timeline.spans]
    assert len(events) == len(spans)
    total_us = sum(event["dur"] for event in events)
    assert total_us == pytest.approx(sum(s.end_s - s.start_s for s in spans) * 1e6)
    names = {event["name"] for event in events}
    assert names == {span.kind for span in spans}


def test_runs_without_a_timeline_leave_no_trace(synthetic: ModuleType) -> None:
    assert json.loads(perfetto.render(synthetic.zero_successes()))["traceEvents"] == []


def test_csv_holds_every_run_and_comparison(result: Result) -> None:
    tables = csv_tables.tables(result)
    rows = list(csv.DictReader(io.StringIO(tables["runs.csv"])))
    assert [row["variant"] for row in rows] == [run.variant for run in result.runs]
    rates = [float(row["output_throughput_tok_s"]) for row in rows]
    assert rates == [run.metrics.output_throughput_tok_s for run in result.runs]
    comparisons = list(csv.DictReader(io.StringIO(tables["comparisons.csv"])))
    assert [float(row["ratio"]) for row in comparisons] == [c.ratio for c in result.comparisons]


def test_csv_of_nothing_is_empty(synthetic: ModuleType) -> None:
    names = ("runs", "comparisons", "sweeps", "sensitivities")
    assert csv_tables.tables(synthetic.empty()) == {f"{name}.csv": "" for name in names}
