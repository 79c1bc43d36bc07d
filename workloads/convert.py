"""A trace as bytes of the generic form that read_trace reads back; writes no file."""

import csv
import gzip
import io
import json
from typing import Literal

from apexbench.workloads.trace import Trace

Format = Literal["csv", "jsonl"]
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
DECIMALS = 9  # nanoseconds, the resolution of a workload


def encode(trace: Trace, form: Format, *, is_compressed: bool = False) -> bytes:
    """`trace` with the columns COLUMNS, without arrival_s where it has none.

    Equal traces give equal bytes, compressed or not.
    """
    text = _csv(trace) if form == "csv" else _jsonl(trace)
    # mtime: gzip would otherwise store the time of day.
    return gzip.compress(text.encode(), mtime=0) if is_compressed else text.encode()


def _csv(trace: Trace) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_names(trace))
    writer.writerows(zip(*_values(trace), strict=True))
    return text.getvalue()


def _jsonl(trace: Trace) -> str:
    names = _names(trace)
    rows = (dict(zip(names, row, strict=True)) for row in zip(*_values(trace), strict=True))
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _names(trace: Trace) -> tuple[str, ...]:
    return COLUMNS if trace.arrival_s is not None else COLUMNS[1:]


def _values(trace: Trace) -> list[list[float]]:
    lengths: list[list[float]] = [trace.prompt_tokens.tolist(), trace.output_tokens.tolist()]
    if trace.arrival_s is None:
        return lengths
    return [[round(second, DECIMALS) for second in trace.arrival_s.tolist()], *lengths]
