"""A trace as bytes of the generic form that read_trace reads back; writes no file."""

import csv
import gzip
import io
import json
from typing import Any, Literal

from apexbench.workloads.trace import Trace

Format = Literal["csv", "jsonl"]
ARRIVAL = "arrival_s"
COUNTED = ("prompt_tokens", "output_tokens")
ESTIMATED = ("estimated_prompt_tokens", "estimated_output_tokens")
HASHES = "hash_ids"
DECIMALS = 9  # nanoseconds, the resolution of a workload


def encode(trace: Trace, form: Format, *, is_compressed: bool = False) -> bytes:
    """`trace` with the columns arrival_s, prompt_tokens, output_tokens and hash_ids.

    Without arrival_s or hash_ids where it has none; a CSV never has hash_ids. Estimated counts keep
    that in the names of their columns. Equal traces give equal bytes, compressed or not.
    """
    text = _csv(trace) if form == "csv" else _jsonl(trace)
    # mtime: gzip would otherwise store the time of day.
    return gzip.compress(text.encode(), mtime=0) if is_compressed else text.encode()


def _csv(trace: Trace) -> str:
    columns = _columns(trace)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _jsonl(trace: Trace) -> str:
    columns = _columns(trace)
    if trace.prefix_hashes is not None:
        columns[HASHES] = trace.prefix_hashes
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _columns(trace: Trace) -> dict[str, Any]:
    """Values by column name, each of length [rows]."""
    lengths = (trace.prompt_tokens.tolist(), trace.output_tokens.tolist())
    columns = dict(zip(ESTIMATED if trace.is_approximated else COUNTED, lengths, strict=True))
    if trace.arrival_s is None:
        return columns
    return {ARRIVAL: [round(second, DECIMALS) for second in trace.arrival_s.tolist()], **columns}
