"""A request trace in memory: lengths, arrivals if known, and what was wrong with the file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.lengths import BoolArray, FloatArray, IntArray

NO_PROMPT = "no prompt tokens"
NO_OUTPUT = "no output tokens"
OUT_OF_ORDER = "out of order, sorted by time"

# Per request the hashes of its prompt's blocks from the first on; equal ones share their KV.
PrefixHashes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Rows of a trace file, sorted by arrival; arrays have shape [rows].

    `arrival_s` counts seconds from the first arrival and is None for a length-only trace.
    `dropped` counts file rows left out or changed, by reason; `num_rows` is what the file held.
    `sha256` is over the bytes of the file as stored (compressed where it is compressed).
    `prefix_hashes` has one entry a row where the file says which prompts begin alike, else None.
    `is_approximated`: the token counts were estimated, not counted by a tokenizer.
    """

    name: str
    format: str
    sha256: str
    num_rows: int
    arrival_s: FloatArray | None
    prompt_tokens: IntArray
    output_tokens: IntArray
    dropped: tuple[tuple[str, int], ...] = ()
    prefix_hashes: PrefixHashes | None = None
    is_approximated: bool = False

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def span_s(self) -> float:
        """From the first to the last arrival [s]; 0 without timestamps."""
        return 0.0 if self.arrival_s is None else float(self.arrival_s[-1])


def hashes_of(trace: Trace, rows: Iterable[int]) -> PrefixHashes | None:
    """The prefix hashes of some rows, in that order; None for a trace without any."""
    hashes = trace.prefix_hashes
    return None if hashes is None else tuple(hashes[row] for row in rows)


def usable(trace: Trace) -> Trace:
    """The trace without rows that ask for nothing, in time order from 0, changes counted.

    InputError when no row is left.
    """
    dropped = dict(trace.dropped)
    keep = _asks_for_something(trace, dropped)
    if not keep.any():
        raise InputError(
            f"trace '{trace.name}' has no usable row: every one of its {trace.num_rows} rows has"
            " zero prompt or output tokens"
        )
    order = np.flatnonzero(keep)
    arrival_s = trace.arrival_s
    if arrival_s is not None:
        order = order[np.argsort(arrival_s[order], kind="stable")]
        _add(dropped, OUT_OF_ORDER, _num_out_of_order(arrival_s[keep]))
        arrival_s = arrival_s[order] - arrival_s[order[0]]
    return replace(
        trace,
        arrival_s=arrival_s,
        prompt_tokens=trace.prompt_tokens[order],
        output_tokens=trace.output_tokens[order],
        prefix_hashes=hashes_of(trace, order.tolist()),
        dropped=tuple(dropped.items()),
    )


def _asks_for_something(trace: Trace, dropped: dict[str, int]) -> BoolArray:
    has_prompt = trace.prompt_tokens > 0
    has_output = trace.output_tokens > 0
    _add(dropped, NO_PROMPT, int(np.count_nonzero(~has_prompt)))
    _add(dropped, NO_OUTPUT, int(np.count_nonzero(has_prompt & ~has_output)))
    return has_prompt & has_output


def _num_out_of_order(arrival_s: FloatArray) -> int:
    """Rows that come before a row above them."""
    return int(np.count_nonzero(arrival_s < np.maximum.accumulate(arrival_s)))


def _add(dropped: dict[str, int], reason: str, count: int) -> None:
    if count:
        dropped[reason] = dropped.get(reason, 0) + count
