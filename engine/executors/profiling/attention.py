"""Attention jobs of many shapes, timed on KV that no cache holds; concludes nothing."""

from collections.abc import Iterator
from itertools import product

from apexbench.cpu_kernels.bench.calls import Calls, WorkerPool
from apexbench.cpu_kernels.bench.kv import (
    KernelContestant,
    Rows,
    kv_bytes_per_token,
    rotating_cache,
)
from apexbench.cpu_kernels.bench.samples import summarise
from apexbench.cpu_kernels.bench.scope import PASS_BYTES, Shape
from apexbench.cpu_kernels.bench.table import TableModel, attention_table
from apexbench.cpu_kernels.geometry import KvDtype, KvGeometry
from apexbench.engine.executors.profiling.measurements import AttentionPoint
from apexbench.engine.executors.profiling.pace import Pace
from apexbench.engine.executors.profiling.scope import Heads, ProfileScope

BLOCK_SIZE, HEAD_DIM = 64, 128


def measure_round(
    scope: ProfileScope, threads: tuple[int, ...], round_: int, pace: Pace
) -> Iterator[AttentionPoint]:
    """All jobs once, one dtype and GQA group after the other; those that time cut off are left out.

    A group is there as a whole or not at all: part of a curve would be a wrong curve.
    """
    for dtype, heads in product(scope.dtypes, scope.heads):
        group: list[AttentionPoint] = []
        for rows, tokens in scope.jobs():
            if not pace.has_time:
                return
            pace.step(f"attention, {dtype}, {heads[0]}/{heads[1]} heads, {tokens} tokens")
            group += _jobs(scope, (heads, dtype, threads, round_), rows, tokens, pace)
        yield from group


def _jobs(
    scope: ProfileScope,
    what: tuple[Heads, KvDtype, tuple[int, ...], int],
    rows: tuple[int, ...],
    tokens: int,
    pace: Pace,
) -> Iterator[AttentionPoint]:
    heads, dtype, threads, round_ = what
    num_bytes = bytes_per_token(heads, dtype)
    for entry in attention_table(
        rows=rows,
        tokens=(tokens,),
        dtypes=(dtype,),
        threads=threads,
        model=TableModel(*heads, HEAD_DIM, BLOCK_SIZE),
        num_repeats=scope.num_repeats,
        check=pace.check,
    ):
        yield AttentionPoint(
            dtype,
            *heads,
            entry.threads,
            (tokens,) * entry.rows,
            entry.rows * tokens * num_bytes,
            entry.seconds,
            entry.spread,
            round_,
        )


def measure_held_out(
    calls: Calls, scope: ProfileScope, pools: dict[int, WorkerPool], pace: Pace
) -> Iterator[AttentionPoint]:
    """Jobs of other shapes, of equal and of unequal rows, while there is time."""
    for dtype, heads in product(scope.held_out_dtypes, scope.heads):
        for lengths in scope.held_out:
            if not pace.has_time:
                return
            pace.step(f"held-out jobs, {dtype}, {heads[0]}/{heads[1]} heads")
            yield from _held_out(calls, pools, heads, dtype, (lengths, scope.num_repeats))


def _held_out(
    calls: Calls,
    pools: dict[int, WorkerPool],
    heads: Heads,
    dtype: KvDtype,
    job: tuple[tuple[int, ...], int],
) -> Iterator[AttentionPoint]:
    lengths, num_repeats = job
    shape = Shape(len(lengths), max(lengths), BLOCK_SIZE, *heads, HEAD_DIM)
    cache = rotating_cache(shape, dtype, pools[max(pools)])
    for threads, pool in pools.items():
        contestant = KernelContestant(calls, cache, Rows(lengths, heads[0]), calls.level(), pool)
        num_calls = -(-PASS_BYTES // contestant.kv_bytes)
        contestant.time_calls(num_calls)
        timed = summarise(contestant.time_calls(num_repeats * num_calls))
        num_bytes = sum(lengths) * bytes_per_token(heads, dtype)
        yield AttentionPoint(
            dtype, *heads, threads, lengths, num_bytes, timed.median, timed.spread, 0, True
        )


def bytes_per_token(heads: Heads, dtype: KvDtype) -> int:
    """K and V of one token in one layer, scales included."""
    return kv_bytes_per_token(KvGeometry(1, 1, heads[1], HEAD_DIM, BLOCK_SIZE, dtype))
