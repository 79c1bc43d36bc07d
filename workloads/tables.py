"""Bytes of a trace file to named columns of raw values; knows no column by meaning."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apexbench.errors import InputError

# Told every object of a JSON file as it is read; what it returns stands in the object's place.
Shrink = Callable[[dict[str, Any]], dict[str, Any]]

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as the file has them. `layout` is "csv", "json" or "jsonl".

    `numbers[i]` is where row i stands for the user: the line of a CSV (header = 1) or JSONL file,
    the place in a JSON list.
    """

    name: str
    layout: str
    columns: tuple[str, ...]
    numbers: list[int]
    rows: list[dict[str, Any]]

    def column(self, name: str) -> list[Any]:
        """All values of one column; InputError names the first row that lacks it."""
        try:
            return [row[name] for row in self.rows]
        except KeyError:
            bad = next(i for i, row in enumerate(self.rows) if name not in row)
            raise InputError(
                f"row {self.numbers[bad]} of '{self.name}' has no {name!r}; the first row has"
            ) from None


def read_bytes(path: Path) -> bytes:
    """The file as stored; InputError when there is no such readable file."""
    if path.is_dir():
        raise InputError(f"'{path}' is a directory; name the trace file in it")
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot read trace file '{path}': {reason}") from error


def parse(text: str, name: str, shrink: Shrink | None = None) -> Table:
    """The rows of a CSV, JSON or JSONL file, told apart by content."""
    start = text.lstrip()[:1]
    if not start:
        raise InputError(f"trace file '{name}' is empty; it must hold at least one request")
    if start == "[":
        return _from_json(text, name, shrink)
    if start == "{":
        return _from_jsonl(text, name, shrink)
    return _from_csv(text, name)


def decode(data: bytes, name: str) -> str:
    """The text of a file, gzipped or not; InputError for anything else."""
    if data.startswith(GZIP_MAGIC):
        data = _gunzip(data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InputError(f"'{name}' is not a trace: it is neither CSV nor JSON but binary data")
    return text


def _gunzip(data: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"'{name}' is a truncated or damaged gzip file; fetch it again") from error


def _from_csv(text: str, name: str) -> Table:
    header_line = text.lstrip().split("\n", 1)[0]
    delimiter = next((mark for mark in ",;\t" if mark in header_line), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    numbers: list[int] = []
    try:
        for record in reader:
            if len(record) > 1 or "".join(record).strip():
                records.append(record)
                numbers.append(reader.line_num)
    except csv.Error as error:
        raise InputError(f"row {reader.line_num} of '{name}' is not valid CSV: {error}") from error
    columns = [column.strip() for column in records[0]]
    return _csv_table(name, columns, numbers[1:], records[1:])


def _csv_table(
    name: str, columns: list[str], numbers: list[int], records: list[list[str]]
) -> Table:
    width = len(columns)
    for number, record in zip(numbers, records, strict=True):
        if len(record) != width:
            raise InputError(
                f"row {number} of '{name}' has {len(record)} fields where the header has {width}"
            )
    rows = [dict(zip(columns, record, strict=True)) for record in records]
    return _filled(Table(name, "csv", tuple(columns), numbers, rows))


def _from_json(text: str, name: str, shrink: Shrink | None) -> Table:
    rows = _loads(text, f"'{name}'", shrink)
    return _objects(name, "json", list(range(1, len(rows) + 1)), rows)


def _from_jsonl(text: str, name: str, shrink: Shrink | None) -> Table:
    numbered = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = [_loads(line, f"row {number} of '{name}'", shrink) for number, line in numbered]
    return _objects(name, "jsonl", [number for number, _ in numbered], rows)


def _loads(text: str, where: str, shrink: Shrink | None) -> Any:
    try:
        return json.loads(text, object_hook=shrink)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not usable JSON: {error}") from error


def _objects(name: str, layout: str, numbers: list[int], rows: list[Any]) -> Table:
    for number, row in zip(numbers, rows, strict=True):
        if not isinstance(row, dict):
            raise InputError(
                f"row {number} of '{name}' is not an object; expected one with the keys prompt and"
                " max_tokens, or columns of those meanings"
            )
    columns = tuple(rows[0]) if rows else ()
    return _filled(Table(name, layout, columns, numbers, rows))


def _filled(table: Table) -> Table:
    if not table.rows:
        raise InputError(f"trace file '{table.name}' holds no requests, only its frame")
    return table
