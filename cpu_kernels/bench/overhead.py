"""What a submission and its join cost, from C and from Python, and what they wait for."""

import ctypes
import time
from typing import Any

import numpy as np

from apexbench.cpu_kernels.bench.calls import CallPlan, Seconds, WorkerPool, on_cpus
from apexbench.cpu_kernels.bench.kv import LayeredJob, Rows, fill, rotating_cache
from apexbench.cpu_kernels.bench.samples import Summary, summarise
from apexbench.cpu_kernels.bench.scope import MAIN_BATCH, MAIN_CONTEXT, shape_of
from apexbench.cpu_kernels.bench.speed import SIDE_BLOCK, SIDE_DTYPE, SIDE_GROUP, Row, spread_of
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.cpu_kernels.cache import KvCache
from apexbench.cpu_kernels.geometry import KvGeometry
from apexbench.cpu_kernels.pool import Pool
from apexbench.cpu_kernels.structures import DEFERRED, IN_LAYER

# The least work a worker can be given: one token of one head.
LEAST_ROWS = Rows((1,), 1)
LEAST_GEOMETRY = KvGeometry(1, 1, 1, 128, 16, "fp16")
# Longer than any worker spins: it sleeps when the next call comes.
PAUSE_NS = 2_000_000
# Calls with a pause take a thousand times as long as those without.
PAUSED_SHARE = 10
MAX_URGENT_CALLS = 100_000
TAIL_QUANTILE = 0.99


def measure_overheads(bench: Workbench) -> list[Row]:
    """Seconds of submit + join of next to no work, by caller and by what the workers do."""
    bench.tell("submit and join")
    cache = KvCache(LEAST_GEOMETRY)
    fill(cache)
    job = LayeredJob(bench.calls, cache, LEAST_ROWS, bench.best_level)
    found = [_row("inline", "no pool", 0, _in_c(bench, job, None))]
    for threads, pool in bench.pools.items():
        bench.check()
        found.append(_row("C", "spinning", threads, _in_c(bench, job, pool)))
        found.append(_row("C", "asleep", threads, _in_c(bench, job, pool, PAUSE_NS)))
        found.append(_row("Python", "spinning", threads, _in_python(bench, job, threads)))
    return found


def measure_urgent(bench: Workbench) -> list[Row]:
    """Seconds of an in-layer call while a deferred job has all workers: how soon they give way."""
    bench.tell("in-layer calls during a deferred job")
    shape = shape_of(SIDE_GROUP, SIDE_BLOCK, MAIN_BATCH, MAIN_CONTEXT)
    cache = rotating_cache(shape, SIDE_DTYPE, bench.widest)
    large = LayeredJob(
        bench.calls, cache, Rows(shape.contexts, shape.num_q_heads), bench.best_level
    )
    small = LayeredJob(bench.calls, cache, Rows((1,), shape.num_q_heads), bench.best_level)
    return [_urgent(bench, large, small, threads) for threads in bench.threads]


def _urgent(bench: Workbench, large: LayeredJob, small: LayeredJob, threads: int) -> Row:
    measured = []
    urgent = small.structs[0]
    urgent.priority = IN_LAYER
    for background in large.structs:
        bench.check()
        background.priority = DEFERRED
        pool = bench.pools[threads]
        with on_cpus(pool.other_cpus):
            seconds = bench.calls.time_urgent(pool.handle, background, urgent, MAX_URGENT_CALLS)
        measured.append(seconds)
    return _row("C", "busy with a deferred job", threads, np.concatenate(measured))


def _in_c(bench: Workbench, job: LayeredJob, pool: WorkerPool | None, pause_ns: int = 0) -> Seconds:
    num_calls = bench.scope.num_calls
    plan = CallPlan(
        pool=pool.handle if pool else None,
        submissions=ctypes.addressof(job.structs),
        num_submissions=1,
        num_calls=num_calls // PAUSED_SHARE if pause_ns else num_calls,
        pause_ns=pause_ns,
    )
    with on_cpus(pool.other_cpus if pool else ()):
        return bench.calls.time_calls(plan)


def _in_python(bench: Workbench, job: LayeredJob, threads: int) -> Seconds:
    """As an engine calls it: tensors bound once, a layer each time."""
    seconds = np.empty(bench.scope.num_calls)
    with Pool(threads) as pool, on_cpus(bench.pools[threads].other_cpus):
        for index in range(len(seconds)):
            began = time.perf_counter()
            pool.launch(job.bound, 0).wait()
            seconds[index] = time.perf_counter() - began
    return seconds


def _row(caller: str, workers: str, threads: int, seconds: Seconds) -> Row:
    measured: Summary = summarise(seconds)
    tail: Any = np.quantile(seconds, TAIL_QUANTILE)
    return {
        "caller": caller,
        "workers": workers,
        "threads": threads,
        "seconds": spread_of(measured),
        "seconds_p99": float(tail),
        "calls": measured.n,
    }
