"""Jobs that are small, and a batch that is uneven: what the pool itself costs or loses."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from apexbench.cpu_kernels.bench.calls import Seconds
from apexbench.cpu_kernels.bench.kv import KernelContestant, Rows, rotating_cache
from apexbench.cpu_kernels.bench.samples import GB, Summary, ratio_of, summarise
from apexbench.cpu_kernels.bench.scope import Shape, shape_of
from apexbench.cpu_kernels.bench.speed import SIDE_BLOCK, SIDE_DTYPE, SIDE_GROUP, Row, spread_of
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.cpu_kernels.cache import KvCache

SMALL_JOBS = ((1, 128), (64, 16))
# Pooled and inline calls take turns in stretches of this many.
CALLS_PER_TURN = 50

LONG_CONTEXT, SHORT_CONTEXT, NUM_SHORT = 32768, 512, 63
MIXED_CONTEXTS = (LONG_CONTEXT, *(SHORT_CONTEXT,) * NUM_SHORT)
EVEN_CONTEXTS = (sum(MIXED_CONTEXTS) // len(MIXED_CONTEXTS),) * len(MIXED_CONTEXTS)


def measure_small_jobs(bench: Workbench) -> Iterator[Row]:
    """Jobs of a few microseconds beside two floors.

    `floor` is the time of the same work called inline, on one thread without a pool; `bytes_floor`
    what reading the KV takes at the read limit of as many threads, no fixed cost added.
    """
    for block_size, (batch, context) in product(bench.scope.block_sizes, SMALL_JOBS):
        shape = shape_of(SIDE_GROUP, block_size, batch, context)
        bench.tell(f"small jobs, {batch} rows of {context} tokens, block {block_size}")
        cache = rotating_cache(shape, SIDE_DTYPE, bench.widest)
        for threads in bench.threads:
            yield _small_job(bench, shape, cache, threads)


def _small_job(bench: Workbench, shape: Shape, cache: KvCache, threads: int) -> Row:
    rows = Rows(shape.contexts, shape.num_q_heads)
    arguments = (bench.calls, cache, rows, bench.best_level, bench.pools[threads])
    pair = [KernelContestant(*arguments), KernelContestant(*arguments, is_inline=True)]
    pooled, inline = _take_turns(bench, pair)
    num_bytes = pair[0].kv_bytes
    bytes_floor = num_bytes / bench.read_limit(threads)["gbps"] / GB
    return {
        "isa": bench.best_level,
        "kv_dtype": SIDE_DTYPE,
        "gqa_group": shape.gqa_group,
        "block_size": shape.block_size,
        "batch": shape.batch,
        "context": shape.context,
        "threads": threads,
        "kv_bytes": num_bytes,
        "seconds": spread_of(pooled),
        "floor_seconds": spread_of(inline),
        "ratio_to_floor": pooled.median / inline.median,
        "bytes_floor_seconds": bytes_floor,
        "ratio_to_bytes_floor": pooled.median / bytes_floor,
    }


def _take_turns(bench: Workbench, contestants: list[KernelContestant]) -> list[Summary]:
    """Seconds per call of each; the first turn of each warms up."""
    turns = bench.scope.num_calls // CALLS_PER_TURN
    seconds: list[list[Seconds]] = [[] for _ in contestants]
    for turn in range(turns + 1):
        bench.check()
        for collected, contestant in zip(seconds, contestants, strict=True):
            measured = contestant.time_calls(CALLS_PER_TURN)
            if turn:
                collected.append(measured)
    return [summarise(np.concatenate(collected)) for collected in seconds]


def measure_mix(bench: Workbench) -> Iterator[Row]:
    """One long sequence among short ones, against as many equal ones of the same total."""
    shape = shape_of(SIDE_GROUP, SIDE_BLOCK, len(EVEN_CONTEXTS), EVEN_CONTEXTS[0])
    bench.tell("one long sequence among short ones")
    cache = rotating_cache(shape, SIDE_DTYPE, bench.widest)
    for threads in bench.threads:
        yield _mix(bench, shape, cache, threads)


def _mix(bench: Workbench, shape: Shape, cache: KvCache, threads: int) -> Row:
    contestants = [
        KernelContestant(
            bench.calls,
            cache,
            Rows(contexts, shape.num_q_heads),
            bench.best_level,
            bench.pools[threads],
        )
        for contexts in (EVEN_CONTEXTS, MIXED_CONTEXTS)
    ]
    even, mixed = bench.compete(contestants, threads)
    speed = ratio_of(
        [repeat.measured.gbps for repeat in mixed.repeats],
        [repeat.measured.gbps for repeat in even.repeats],
    )
    return {
        "isa": bench.best_level,
        "kv_dtype": SIDE_DTYPE,
        "gqa_group": shape.gqa_group,
        "block_size": shape.block_size,
        "threads": threads,
        "long_context": LONG_CONTEXT,
        "short_context": SHORT_CONTEXT,
        "num_short": NUM_SHORT,
        "even_context": EVEN_CONTEXTS[0],
        "even_seconds": even.seconds.median,
        "mixed_seconds": mixed.seconds.median,
        "loss": 1.0 - speed.median,
        "spread": speed.spread,
    }
