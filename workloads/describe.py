"""What a trace looks like: lengths, rate, burstiness; prints nothing."""

from dataclasses import dataclass, replace

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.context import CLIPPED, DROPPED, ContextLimit, cut_hashes
from apexbench.workloads.lengths import FloatArray, IntArray
from apexbench.workloads.trace import Trace, hashes_of

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
MINUTE_S = 60.0
# Below two whole minutes a peak per minute says nothing about bursts.
MIN_MINUTES = 2


@dataclass(frozen=True, slots=True)
class LengthFigures:
    """`quantiles[i]` [tokens] belongs to QUANTILES[i]."""

    mean: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TraceFigures:
    """Figures of the rows kept. What needs timestamps, or more of them, is None.

    `interarrival_cv` is standard deviation / mean of the gaps, 1 for Poisson;
    `peak_to_mean` compares the busiest whole minute with the average one. `is_approximated` means
    that token counts were estimated from the characters of texts.
    """

    name: str
    format: str
    sha256: str
    num_rows: int
    num_kept: int
    dropped: dict[str, int]
    prompt_tokens: LengthFigures
    output_tokens: LengthFigures
    span_s: float | None
    mean_rate_rps: float | None
    interarrival_cv: float | None
    peak_to_mean: float | None
    is_approximated: bool


def describe(trace: Trace) -> TraceFigures:
    """The figures of a trace."""
    gaps_s = np.diff(trace.arrival_s) if trace.arrival_s is not None else np.zeros(0)
    has_rate = bool(gaps_s.any())
    return TraceFigures(
        name=trace.name,
        format=trace.format,
        sha256=trace.sha256,
        num_rows=trace.num_rows,
        num_kept=len(trace),
        dropped=dict(trace.dropped),
        prompt_tokens=_lengths(trace.prompt_tokens),
        output_tokens=_lengths(trace.output_tokens),
        span_s=None if trace.arrival_s is None else trace.span_s,
        mean_rate_rps=float(1 / gaps_s.mean()) if has_rate else None,
        interarrival_cv=float(gaps_s.std() / gaps_s.mean()) if has_rate else None,
        peak_to_mean=None if trace.arrival_s is None else _peak_to_mean(trace.arrival_s),
        is_approximated=trace.is_approximated,
    )


def limited(trace: Trace, limit: ContextLimit) -> Trace:
    """The trace with rows over the limit left out or cut, and counted.

    InputError when none is left.
    """
    over = limit.over(trace.prompt_tokens, trace.output_tokens)
    dropped = dict(trace.dropped)
    if over.any():
        dropped[DROPPED if limit.mode == "drop" else CLIPPED] = int(np.count_nonzero(over))
    if limit.mode == "clip":
        prompt, output = limit.clip(trace.prompt_tokens, trace.output_tokens)
        hashes = trace.prefix_hashes
        return replace(
            trace,
            prompt_tokens=prompt,
            output_tokens=output,
            prefix_hashes=hashes and cut_hashes(hashes, trace.prompt_tokens, prompt),
            dropped=tuple(dropped.items()),
        )
    if over.all():
        raise InputError(
            f"every request of '{trace.name}' exceeds the max context of {limit.tokens} tokens;"
            f" raise it, or cut requests with {limit.tokens}:clip"
        )
    return replace(
        trace,
        arrival_s=None if trace.arrival_s is None else _from_zero(trace.arrival_s[~over]),
        prompt_tokens=trace.prompt_tokens[~over],
        output_tokens=trace.output_tokens[~over],
        prefix_hashes=hashes_of(trace, np.flatnonzero(~over).tolist()),
        dropped=tuple(dropped.items()),
    )


def _from_zero(times_s: FloatArray) -> FloatArray:
    since_first: FloatArray = times_s - times_s[0]
    return since_first


def _lengths(tokens: IntArray) -> LengthFigures:
    quantiles = tuple(float(q) for q in np.quantile(tokens, QUANTILES))
    return LengthFigures(mean=float(tokens.mean()), quantiles=quantiles)


def _peak_to_mean(arrival_s: FloatArray) -> float | None:
    """Over whole minutes only: the last, partial one would lower the mean."""
    minutes = int(arrival_s[-1] // MINUTE_S)
    if minutes < MIN_MINUTES:
        return None
    counts, _ = np.histogram(arrival_s, bins=minutes, range=(0.0, minutes * MINUTE_S))
    return float(counts.max() / counts.mean())
