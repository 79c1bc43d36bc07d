"""Step timelines as a Chrome trace, for ui.perfetto.dev; a process per run, a thread per lane."""

import json
from collections.abc import Iterator
from typing import Any

from apexbench.records import LANES
from apexbench.result import Result, Run, Span, Timeline

_US = 1e6
_NANOSECOND_DIGITS = 3  # of a microsecond


def render(result: Result) -> str:
    """JSON of the trace; all steps start at 0, so that runs can be compared by eye."""
    events: list[dict[str, Any]] = []
    for pid, run in enumerate(result.runs, start=1):
        if run.timeline is not None:
            events += _run_events(pid, run, run.timeline)
    trace = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"tool": "apexbench", "version": result.tool_version},
    }
    return json.dumps(trace, separators=(",", ":"), allow_nan=False) + "\n"


def _run_events(pid: int, run: Run, step: Timeline) -> Iterator[dict[str, Any]]:
    lanes = {lane: tid for tid, lane in enumerate(_lanes(step), start=1)}
    name = f"{run.variant} · {run.setting} · seed {run.seed} · {step.strategy}"
    yield _metadata(pid, 0, "process_name", {"name": name})
    yield _metadata(pid, 0, "process_sort_index", {"sort_index": pid})
    for lane, tid in lanes.items():
        yield _metadata(pid, tid, "thread_name", {"name": lane})
        yield _metadata(pid, tid, "thread_sort_index", {"sort_index": tid})
    for span in step.spans:
        yield _complete(pid, lanes[span.lane], span)


def _lanes(step: Timeline) -> list[str]:
    """The usual lanes first, whatever others occur after them."""
    used = dict.fromkeys(span.lane for span in step.spans)
    return [*LANES, *(lane for lane in used if lane not in LANES)]


def _metadata(pid: int, tid: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "M", "pid": pid, "tid": tid, "name": name, "args": arguments}


def _complete(pid: int, tid: int, span: Span) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": pid,
        "tid": tid,
        "name": span.kind,
        "cat": span.lane,
        "ts": round(span.start_s * _US, _NANOSECOND_DIGITS),
        "dur": round((span.end_s - span.start_s) * _US, _NANOSECOND_DIGITS),
        "args": {"layer": span.layer, "group": span.group, "rows": span.rows},
    }
