"""Which requests of a source are served: seeded choice, repeatable; no arrival processes here."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.context import ContextLimit
from apexbench.workloads.lengths import BoolArray, IntArray, Marginals
from apexbench.workloads.streams import Stream, generator
from apexbench.workloads.trace import Trace

MIN_DRAWS = 1024  # draws cost little, and a share judged on fewer would be chance
# A source of which fewer than 1 in 100 requests fit is not what the user meant to measure.
MIN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Demand:
    """How much is wanted, by count or by time or both, which choice, and the longest allowed."""

    num_requests: int | None
    duration_s: float | None
    seed: int
    limit: ContextLimit | None


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Requests chosen from an endless sequence of candidates; arrays have shape [n].

    `positions` are places in that sequence, rising; `rows` are the rows of a trace found there, and
    the positions again where there is no trace. Candidates from `start` to before `stop` were
    looked at; those not chosen were longer than the max context.
    """

    start: int
    stop: int
    positions: IntArray
    rows: IntArray
    prompt: IntArray
    output: IntArray

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def num_rejected(self) -> int:
        """Candidates passed over."""
        return self.stop - self.start - len(self)

    def head(self, count: int) -> Self:
        """The first `count` requests, as if nothing after the last of them had been looked at."""
        if count == len(self):
            return self
        return replace(
            self,
            stop=int(self.positions[count - 1]) + 1,
            positions=self.positions[:count],
            rows=self.rows[:count],
            prompt=self.prompt[:count],
            output=self.output[:count],
        )


def choose(lengths: Marginals | Trace, name: str, count: int, demand: Demand) -> Sample:
    """The first `count` candidates that the limit does not drop; more only append.

    InputError when (almost) none fits; `name` is the source's, for that sentence.
    """
    num_draws = max(count, MIN_DRAWS)
    while True:
        drawn = _draw(lengths, demand.seed, num_draws)
        _check_share(lengths if isinstance(lengths, Trace) else drawn, name, demand.limit)
        sample = _drop(drawn, demand.limit)
        if len(sample) >= count:
            return sample.head(count)
        num_draws *= 2


def everything(trace: Trace, name: str, limit: ContextLimit | None) -> Sample:
    """Every row of the trace once, in order, without those the limit drops.

    InputError when none is left.
    """
    rows = np.arange(len(trace))
    every = Sample(0, len(trace), rows, rows, trace.prompt_tokens, trace.output_tokens)
    sample = _drop(every, limit)
    if limit is not None and not len(sample):
        raise InputError(_too_long("every request of", name, limit))
    return sample


def _check_share(rows: Trace | Sample, name: str, limit: ContextLimit | None) -> None:
    if limit is None or limit.mode == "clip":
        return
    share = _fit(rows, limit).mean()
    if share < MIN_SHARE:
        every = "every request of" if isinstance(rows, Trace) else "every request drawn from"
        what = every if share == 0 else "more than 99 of 100 requests of"
        raise InputError(_too_long(what, name, limit))


def _fit(rows: Trace | Sample, limit: ContextLimit) -> BoolArray:
    if isinstance(rows, Trace):
        return ~limit.over(rows.prompt_tokens, rows.output_tokens)
    return ~limit.over(rows.prompt, rows.output)


def _too_long(what: str, name: str, limit: ContextLimit) -> str:
    return (
        f"{what} '{name}' exceeds the max context of {limit.tokens} tokens; use shorter requests,"
        f" a model or limit with a longer context, or cut them with {limit.tokens}:clip"
    )


def _drop(sample: Sample, limit: ContextLimit | None) -> Sample:
    if limit is None or limit.mode == "clip":
        return sample
    keep = np.flatnonzero(_fit(sample, limit))
    return replace(
        sample,
        positions=sample.positions[keep],
        rows=sample.rows[keep],
        prompt=sample.prompt[keep],
        output=sample.output[keep],
    )


def _draw(lengths: Marginals | Trace, seed: int, count: int) -> Sample:
    """The first `count` candidates: independent draws, a bootstrap of rows, or a window."""
    if isinstance(lengths, Marginals):
        prompt = lengths.prompt.draw(generator(seed, Stream.PROMPT_LENGTHS), count)
        output = lengths.output.draw(generator(seed, Stream.OUTPUT_LENGTHS), count)
        positions = np.arange(count)
        return Sample(0, count, positions, positions, prompt, output)
    rng = generator(seed, Stream.TRACE_ROWS)
    if lengths.arrival_s is None:
        start = 0
        rows = rng.integers(len(lengths), size=count, dtype=np.int64)
    else:
        start = int(rng.integers(len(lengths)))
        rows = np.arange(start, start + count) % len(lengths)
    return Sample(
        start=start,
        stop=start + count,
        positions=np.arange(start, start + count),
        rows=rows,
        prompt=lengths.prompt_tokens[rows],
        output=lengths.output_tokens[rows],
    )
