"""What the columns of a trace mean, and their values as arrays; reads no files."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.lengths import FloatArray, IntArray
from apexbench.workloads.tables import Table
from apexbench.workloads.trace import PrefixHashes

MAX_LISTED = 12  # columns in an error sentence
MAX_TOKENS = 2**31 - 1  # longer than any context; keeps sums within 64 bits
MAX_ARRIVAL = 1e13  # year 2286 in Unix milliseconds; micro- and nanoseconds are not guessed
NS_PER_S = 1e9

# Names are compared in lower case without punctuation. First match wins, so the specific stand
# before the ambiguous ("prompt" is a text in some formats).
PROMPT = (
    "prompttokens", "contexttokens", "inputtokens", "requesttokens", "numprompttokens",
    "numprefilltokens", "promptlength", "inputlength", "promptlen", "inputlen", "isl",
    "estimatedprompttokens", "prompt", "input",
)  # fmt: skip
OUTPUT = (
    "outputtokens", "generatedtokens", "completiontokens", "responsetokens", "numoutputtokens",
    "numdecodetokens", "outputlength", "outputlen", "osl", "maxtokens", "maxnewtokens",
    "estimatedoutputtokens", "output",
)  # fmt: skip
ARRIVAL_MS = ("arrivalms", "arrivaltimems", "timestampms", "timems")
ARRIVAL_S = (
    "arrivals", "arrivaltimes", "timestamps", "times", "arrivedat", "arrivaltime", "arrival",
    "timestamp", "time", "starttime",
)  # fmt: skip
_AZURE = {"timestamp", "contexttokens", "generatedtokens"}
_BURSTGPT = {"timestamp", "model", "requesttokens", "responsetokens", "totaltokens", "logtype"}
# Mooncake calls milliseconds "timestamp"; its block hashes give it away. Its production traces
# count arrivals in steps of 3 s: rates over shorter times mean nothing.
_MOONCAKE = {"timestamp", "inputlength", "outputlength", "hashids"}
# A date, and a time zone that changes nothing because only differences count.
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:Z|\+00:00)?", re.ASCII)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which columns hold what. `arrival` is None for a length-only trace, `hashes` for one that
    does not say which prompts begin alike; `is_estimated`: the file itself calls its counts so.
    """

    format: str
    prompt: str
    output: str
    arrival: str | None
    arrival_unit_s: float
    hashes: str | None
    is_estimated: bool


def recognise(table: Table) -> Meaning:
    """The meaning of a table's columns; InputError lists what was found and what is needed."""
    names = {_plain(column): column for column in reversed(table.columns)}
    prompt, output = _first(names, PROMPT), _first(names, OUTPUT)
    if prompt is None or output is None:
        found = ", ".join(map(repr, table.columns[:MAX_LISTED])) or "no names"
        raise InputError(
            f"'{table.name}' has the columns {found}; needed are one for the prompt tokens (such"
            " as prompt_tokens, ContextTokens, input_length) and one for the output tokens (such"
            " as output_tokens, GeneratedTokens, max_tokens)"
        )
    in_ms = _first(names, ARRIVAL_MS)
    is_mooncake = names.keys() >= _MOONCAKE
    return Meaning(
        format=_format(table, names.keys(), is_mooncake=is_mooncake),
        prompt=prompt,
        output=output,
        arrival=in_ms or _first(names, ARRIVAL_S),
        arrival_unit_s=1e-3 if in_ms or is_mooncake else 1.0,
        hashes=None if table.layout == "csv" else names.get("hashids"),
        is_estimated=_plain(prompt).startswith("estimated"),
    )


def token_counts(table: Table, column: str) -> IntArray:
    """A column of whole token counts, shape [rows]; InputError names the first bad row."""
    values = _converted(table, column, _tokens, "a whole number of tokens, 0 or more")
    return np.array(values, dtype=np.int64)


def arrival_times(table: Table, meaning: Meaning) -> FloatArray | None:
    """Seconds since the earliest arrival, shape [rows], in file order; None without a column.

    Numbers are in the column's unit; dates such as 2023-11-16 18:15:46.6805900 are exact to 100 ns.
    """
    if meaning.arrival is None:
        return None
    first = table.column(meaning.arrival)[0]
    if isinstance(first, str) and _ISO_TIME.fullmatch(first.strip()):
        return _dates(table, meaning.arrival)
    expected = "a time: a number 0 or more, or a date as in 2023-11-16 18:15:46.68"
    values = np.array(_converted(table, meaning.arrival, _time, expected)) * meaning.arrival_unit_s
    since_first: FloatArray = values - values.min()
    return since_first


def prefix_hashes(table: Table, meaning: Meaning) -> PrefixHashes | None:
    """The lists of block hashes, one a row; None without such a column (no CSV has one)."""
    if meaning.hashes is None:
        return None
    expected = "a list of block hashes, whole numbers"
    return tuple(_converted(table, meaning.hashes, _hashes, expected))


def _dates(table: Table, column: str) -> FloatArray:
    expected = "a date as in 2023-11-16 18:15:46.68, in UTC"
    times = np.array(_converted(table, column, _date, expected)).astype("datetime64[ns]")
    since_first: FloatArray = (times - times.min()).astype(np.int64) / NS_PER_S
    return since_first


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _first(names: dict[str, str], synonyms: Sequence[str]) -> str | None:
    return next((names[synonym] for synonym in synonyms if synonym in names), None)


def _format(table: Table, names: Any, *, is_mooncake: bool) -> str:
    if is_mooncake:
        return f"mooncake-{table.layout}"
    if table.layout == "csv" and set(names) == _AZURE:
        return "azure-csv"
    if table.layout == "csv" and set(names) >= _BURSTGPT:
        return "burstgpt-csv"
    if table.layout == "json" and set(names) == {"prompt", "maxtokens"}:
        return "lengths-json"
    return f"columns-{table.layout}"


def _converted(
    table: Table, column: str, convert: Callable[[Any], Value], expected: str
) -> list[Value]:
    values = table.column(column)
    converted: list[Value] = []
    try:
        for value in values:
            converted.append(convert(value))  # noqa: PERF401 - its length names the bad row
    except (ValueError, TypeError, OverflowError) as error:
        bad = len(converted)
        raise InputError(
            f"row {table.numbers[bad]} of '{table.name}': {column!r} is {values[bad]!r:.60},"
            f" not {expected}"
        ) from error
    return converted


def _tokens(value: Any) -> int:
    number = _number(value)
    if number != int(number) or not 0 <= number <= MAX_TOKENS:
        raise ValueError(value)
    return int(number)


def _time(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= MAX_ARRIVAL:
        raise ValueError(value)
    return number


def _hashes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise TypeError(value)
    return tuple(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _date(value: Any) -> np.datetime64:
    match = _ISO_TIME.fullmatch(value.strip())
    if match is None:
        raise ValueError(value)
    return np.datetime64(match[1], "ns")
