"""Reads a trace file of any supported form into a Trace; one entry point, no guessing of lengths.

Azure CSV (TIMESTAMP, ContextTokens, GeneratedTokens), Mooncake JSONL, BurstGPT CSV, JSON lists of
{"prompt": n, "max_tokens": m}, and CSV, JSON or JSONL with columns of such names; .gz of each.
"""

import hashlib
from pathlib import Path

from apexbench.workloads.columns import arrival_times, recognise, token_counts
from apexbench.workloads.tables import parse, read_bytes
from apexbench.workloads.trace import Trace, usable


def read_trace(path: str | Path) -> Trace:
    """The usable rows of a trace file in time order; what was left out is counted.

    InputError, naming the row where there is one (header = row 1), for a file that is missing,
    empty, malformed, of unknown columns, or without any usable row.
    """
    path = Path(path)
    data = read_bytes(path)
    table = parse(data, path.name)
    meaning = recognise(table)
    return usable(
        Trace(
            name=path.name,
            format=meaning.format,
            sha256=hashlib.sha256(data).hexdigest(),
            num_rows=len(table.rows),
            arrival_s=arrival_times(table, meaning),
            prompt_tokens=token_counts(table, meaning.prompt),
            output_tokens=token_counts(table, meaning.output),
        )
    )
