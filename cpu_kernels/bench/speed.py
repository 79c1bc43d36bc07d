"""How fast each level reads KV of each dtype and shape, as a part of the read limit."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from apexbench.cpu_kernels.bench.kv import KernelContestant, Rows, rotating_cache
from apexbench.cpu_kernels.bench.samples import Rate, Summary, ratio_of
from apexbench.cpu_kernels.bench.scope import MAIN_BATCH, MAIN_CONTEXT, Shape, shape_of
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.cpu_kernels.cache import KvCache
from apexbench.cpu_kernels.geometry import KvDtype

Row = dict[str, Any]
# Where a shape beside the main one is looked at: one that today's models have.
SIDE_GROUP, SIDE_BLOCK = 4, 64
SIDE_DTYPE: KvDtype = "fp16"
COMPARED_DTYPES = ("int8", "fp16")
COMPARED_LEVELS = ("avx2", "avx512")


def measure_main(bench: Workbench) -> Iterator[tuple[list[Row], list[Row]]]:
    """Rows and comparisons of 16 x 2048 tokens: every level and dtype in one contest per shape."""
    scope = bench.scope
    for group, block_size in product(scope.gqa_groups, scope.block_sizes):
        shape = shape_of(group, block_size, MAIN_BATCH, MAIN_CONTEXT)
        bench.tell(f"filling KV, GQA group {group}, block {block_size}")
        caches = _caches(bench, shape, scope.kv_dtypes)
        for threads in bench.threads:
            yield _contest(bench, shape, caches, threads)
        del caches  # before the next ones are made


def measure_batches(bench: Workbench) -> Iterator[list[Row]]:
    """Rows of other numbers of rows and tokens, at the best level."""
    for batch, context in bench.scope.batches:
        shape = shape_of(SIDE_GROUP, SIDE_BLOCK, batch, context)
        bench.tell(f"{batch} rows of {context} tokens")
        cache = rotating_cache(shape, SIDE_DTYPE, bench.widest)
        for threads in bench.threads:
            yield _race(bench, shape, [cache], [bench.best_level], threads)[0]
        del cache


def _caches(bench: Workbench, shape: Shape, dtypes: Iterable[KvDtype]) -> list[KvCache]:
    return [rotating_cache(shape, dtype, bench.widest) for dtype in dtypes]


def _contest(
    bench: Workbench, shape: Shape, caches: list[KvCache], threads: int
) -> tuple[list[Row], list[Row]]:
    bench.tell(f"GQA group {shape.gqa_group}, block {shape.block_size}, {threads} threads")
    rows, rates = _race(bench, shape, caches, list(bench.levels), threads)
    return rows, compare(rows, rates)


def _race(
    bench: Workbench, shape: Shape, caches: list[KvCache], levels: list[str], threads: int
) -> tuple[list[Row], list[Rate]]:
    rows = Rows(shape.contexts, shape.num_q_heads)
    pool = bench.pools[threads]
    contestants = [
        KernelContestant(bench.calls, cache, rows, isa, pool)
        for cache, isa in product(caches, levels)
    ]
    rates = bench.compete(contestants, threads)
    raced = zip(contestants, rates, strict=True)
    return [row_of(shape, contestant, threads, rate) for contestant, rate in raced], rates


def row_of(shape: Shape, contestant: KernelContestant, threads: int, rate: Rate) -> Row:
    """One measurement as the JSON document has it."""
    paired = rate.paired_ratio
    return {
        "isa": contestant.isa,
        "kv_dtype": contestant.kv_dtype,
        "gqa_group": shape.gqa_group,
        "num_q_heads": shape.num_q_heads,
        "num_kv_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "block_size": shape.block_size,
        "batch": shape.batch,
        "context": shape.context,
        "threads": threads,
        "gbps": rate.gbps.median,
        "ratio_to_read_limit": rate.ratio,
        "spread": rate.gbps.spread,
        "limit_gbps": rate.limit_gbps.median,
        "limit_spread": rate.limit_gbps.spread,
        "paired_ratio": spread_of(paired),
        "tokens_per_s": contestant.num_tokens / contestant.kv_bytes * rate.gbps.median * 1e9,
        "seconds_per_job": contestant.kv_bytes / rate.gbps.median / 1e9,
        "kv_bytes": contestant.kv_bytes,
        "huge_page_fraction": contestant.huge_page_fraction,
        "repeats": len(rate.repeats),
        "preempted_repeats": rate.num_preempted,
        "is_void": rate.is_void,
    }


def spread_of(summary: Summary) -> dict[str, float]:
    """A summary as the JSON document has it."""
    return {"median": summary.median, "lower": summary.lower, "upper": summary.upper}


def compare(rows: list[Row], rates: list[Rate]) -> list[Row]:
    """What one contest says of int8 against fp16 and of AVX2 against AVX-512."""
    return [*_compare_dtypes(rows, rates), *_compare_levels(rows, rates)]


def _compare_dtypes(rows: list[Row], rates: list[Rate]) -> Iterator[Row]:
    """Tokens/s of int8 over those of fp16, level by level, repeat by repeat."""
    for isa in dict.fromkeys(row["isa"] for row in rows):
        found = {row["kv_dtype"]: index for index, row in enumerate(rows) if row["isa"] == isa}
        if all(dtype in found for dtype in COMPARED_DTYPES):
            one, other = (found[dtype] for dtype in COMPARED_DTYPES)
            yield _comparison("tokens_per_s", *COMPARED_DTYPES, (rows, rates), (one, other))


def _compare_levels(rows: list[Row], rates: list[Rate]) -> Iterator[Row]:
    """Tokens/s of AVX2 over those of AVX-512, dtype by dtype."""
    for dtype in dict.fromkeys(row["kv_dtype"] for row in rows):
        found = {row["isa"]: index for index, row in enumerate(rows) if row["kv_dtype"] == dtype}
        if all(isa in found for isa in COMPARED_LEVELS):
            one, other = (found[isa] for isa in COMPARED_LEVELS)
            yield _comparison("tokens_per_s", *COMPARED_LEVELS, (rows, rates), (one, other))


def _comparison(
    metric: str,
    candidate: str,
    baseline: str,
    measured: tuple[list[Row], list[Rate]],
    indices: tuple[int, int],
) -> Row:
    rows, rates = measured
    pair = [_tokens_per_s(rows[index], rates[index]) for index in indices]
    shared = ("gqa_group", "block_size", "batch", "context", "threads", "isa", "kv_dtype")
    row = rows[indices[0]]
    fixed = {key: row[key] for key in shared if row[key] != candidate}
    ratio = ratio_of(*pair)
    return (
        {"metric": metric, "candidate": candidate, "baseline": baseline}
        | fixed
        | {
            "ratio": ratio.median,
            "spread": ratio.spread,
        }
    )


def _tokens_per_s(row: Row, rate: Rate) -> list[float]:
    tokens_per_gb = row["tokens_per_s"] / row["gbps"]
    return [repeat.measured.gbps * tokens_per_gb for repeat in rate.repeats]
