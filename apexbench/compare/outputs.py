"""The files of a comparison, written atomically into one directory."""

from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from apexbench.files import ensure_writable_dir, write_bytes_atomic, write_text_atomic
from apexbench.reports import html, markdown, perfetto
from apexbench.result import REQUESTS_FILE, Result, to_json


def write_all(out: Path, result: Result, requests: pa.Table) -> None:
    """result.json first: a report can be rendered again, a run cannot."""
    ensure_writable_dir(out)
    write_text_atomic(out / "result.json", to_json(result))
    buffer = BytesIO()
    pq.write_table(requests, buffer, compression="zstd")
    write_bytes_atomic(out / REQUESTS_FILE, buffer.getvalue())
    write_text_atomic(out / "summary.md", markdown.render(result))
    write_text_atomic(out / "trace.json", perfetto.render(result))
    write_text_atomic(out / "report.html", html.render(result))
