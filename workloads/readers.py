"""Reads a trace file of any supported form into a Trace; one entry point, no guessing of formats.

Azure CSV (TIMESTAMP, ContextTokens, GeneratedTokens), BurstGPT CSV, Mooncake JSONL, ShareGPT-like
conversations, JSON lists of {"prompt": n, "max_tokens": m}, and CSV, JSON or JSONL with columns of
such names; .gz of each.
"""

import hashlib
from pathlib import Path

from apexbench.workloads.columns import arrival_times, prefix_hashes, recognise, token_counts
from apexbench.workloads.conversations import COLUMN, conversation_trace, shrink
from apexbench.workloads.tables import Table, decode, parse, read_bytes
from apexbench.workloads.trace import Trace, usable


def read_trace(path: str | Path) -> Trace:
    """The usable rows of a trace file in time order; what was left out is counted.

    InputError, naming the row where there is one (header = row 1), for a file that is missing,
    empty, malformed, of unknown columns, or without any usable row.
    """
    path = Path(path)
    data = read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    text = decode(data, path.name)
    del data  # a large file would otherwise be in memory twice beside its rows
    table = parse(text, path.name, shrink)
    has_texts = COLUMN in table.columns
    return usable(conversation_trace(table, sha256) if has_texts else _trace(table, sha256))


def _trace(table: Table, sha256: str) -> Trace:
    meaning = recognise(table)
    return Trace(
        name=table.name,
        format=meaning.format,
        sha256=sha256,
        num_rows=len(table.rows),
        arrival_s=arrival_times(table, meaning),
        prompt_tokens=token_counts(table, meaning.prompt),
        output_tokens=token_counts(table, meaning.output),
        prefix_hashes=prefix_hashes(table, meaning),
        is_approximated=meaning.is_estimated,
    )
