"""One run of `apexbench profile` on this host: what is measured, in which order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from apexbench.cpu_kernels.bench.calls import Calls, open_calls
from apexbench.cpu_kernels.bench.overhead import measure_overheads
from apexbench.cpu_kernels.bench.scope import QUICK as BENCH_SCOPE
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.engine.executors.profiling import circumstances
from apexbench.engine.executors.profiling.attention import measure_held_out, measure_round
from apexbench.engine.executors.profiling.copies import measure_conversions, measure_copies
from apexbench.engine.executors.profiling.measurements import (
    AttentionPoint,
    Copy,
    Handover,
    HostMeasurements,
    ReadLimit,
    Timing,
)
from apexbench.engine.executors.profiling.pace import Pace, Watchers
from apexbench.engine.executors.profiling.quiet import CpuWatch, quietness
from apexbench.engine.executors.profiling.scope import FULL, QUICK, ProfileScope, choose_threads
from apexbench.engine.executors.profiling.stepping import NUM_LAYERS, ROWS, measure_steps
from apexbench.engine.executors.profiling.waits import SLEEPS_S, measure_waits
from apexbench.engine.executors.threads.hand_over import hand_over_seconds

SCOPES = {scope.name: scope for scope in (FULL, QUICK)}


@dataclass(slots=True)
class _Found:
    """Filled in the order of the run; read limits come between the other parts."""

    reads: list[ReadLimit] = field(default_factory=list)
    points: list[AttentionPoint] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)


def measure_host(
    scope: ProfileScope, wished_threads: int | None = None, watchers: Watchers | None = None
) -> HostMeasurements:
    """Measure this host. `wished_threads`: the most worker threads to measure.

    InputError where the kernels are not compiled or memory is short, UsageError for threads this
    process does not have; whatever `watchers.check` raises ends it between two measurements.
    """
    calls = open_calls()
    cores = circumstances.usable_cores(sorted(os.sched_getaffinity(0)))
    threads = choose_threads(cores, wished_threads)
    pace = Pace(scope.budget_s, watchers or Watchers(), _num_steps(scope))
    pace.step("whether the machine is quiet")
    before = quietness()
    described, watch = circumstances.describe(calls), CpuWatch()
    with _workbench(calls, scope, threads, pace) as bench:
        found, handovers = _measure(calls, scope, bench, pace)
    waits = tuple(measure_waits(scope.num_samples, pace))
    steps = tuple(measure_steps(scope.num_samples, pace))
    pace.step("handing steps to lanes")
    lane_step_s, lane_in_layer_s = hand_over_seconds(NUM_LAYERS)
    return HostMeasurements(
        scope=scope.name,
        cores=cores,
        memory_bytes=circumstances.memory_bytes(),
        threads=threads,
        circumstances=described | {"load_average_after": list(os.getloadavg())},
        reads=tuple(found.reads),
        attention=tuple(found.points),
        copies=tuple(found.copies),
        handovers=handovers,
        waits=waits,
        steps=steps,
        lane_step_s=lane_step_s,
        lane_in_layer_s=lane_in_layer_s,
        quiet_before=before,
        quiet_during=watch.quietness(),
        missing=_missing(scope, found.points),
        wall_s=pace.elapsed_s,
    )


def _measure(
    calls: Calls, scope: ProfileScope, bench: Workbench, pace: Pace
) -> tuple[_Found, tuple[Handover, ...]]:
    """All that needs workers. What the fits need comes first, then what judges and repeats it."""
    found = _Found()
    found.reads += _read_limits(bench, pace)
    pace.step("submit and join")
    handovers = tuple(_handovers(bench))
    found.points += measure_round(scope, bench.threads, 0, pace)
    found.reads += _read_limits(bench, pace)
    found.points += measure_held_out(calls, scope, bench.pools, pace)
    found.copies += measure_copies(scope.num_samples, pace)
    found.copies += measure_conversions(scope.dtypes, scope.num_samples, pace)
    for round_ in range(1, scope.num_rounds):
        found.points += measure_round(scope, bench.threads, round_, pace)
    found.reads += _read_limits(bench, pace)
    return found, handovers


@contextmanager
def _workbench(
    calls: Calls, scope: ProfileScope, threads: tuple[int, ...], pace: Pace
) -> Iterator[Workbench]:
    pace.step("tuning the readers")
    bench_scope = replace(BENCH_SCOPE, num_calls=scope.num_samples)
    bench = Workbench(
        calls,
        bench_scope,
        levels=(calls.level(),),
        threads=threads,
        check=pace.check,
        tell=lambda _: None,
    )
    try:
        yield bench
    finally:
        bench.close()


def _read_limits(bench: Workbench, pace: Pace) -> Iterator[ReadLimit]:
    for threads in bench.threads:
        pace.step(f"reading memory, {threads} threads")
        measured = bench.read_limit(threads)
        best = max(measured["readers"].values(), key=lambda reader: float(reader["gbps"]))
        yield ReadLimit(threads, measured["gbps"], best["spread"])


def _handovers(bench: Workbench) -> Iterator[Handover]:
    for row in measure_overheads(bench):
        quartiles = row["seconds"]
        spread = (quartiles["upper"] - quartiles["lower"]) / quartiles["median"]
        timing = Timing(quartiles["median"], spread, row["calls"])
        yield Handover(row["caller"], row["workers"], row["threads"], timing, row["seconds_p99"])


def _num_steps(scope: ProfileScope) -> int:
    groups = len(scope.heads) * len(scope.dtypes)
    held_out = len(scope.heads) * len(scope.held_out_dtypes) * len(scope.held_out)
    rest = len(SLEEPS_S) + len(ROWS) + len(scope.dtypes)
    return scope.num_rounds * groups * len(scope.jobs()) + held_out + rest + _FEW


# Steps that depend on the machine or are one of a kind: read limits, tuning, copies.
_FEW = 12


def _missing(scope: ProfileScope, points: list[AttentionPoint]) -> tuple[str, ...]:
    """What the budget cut off, in words."""
    wanted = [(heads, dtype) for heads in scope.heads for dtype in scope.dtypes]
    rounds = range(scope.num_rounds)
    seen = {(p.round, (p.num_q_heads, p.num_kv_heads), p.dtype) for p in points}
    absent = [f"{d} KV with {h[0]}/{h[1]} heads" for h, d in wanted if (0, h, d) not in seen]
    if any((again, h, d) not in seen for again in rounds[1:] for h, d in wanted):
        absent.append("part of the second round")
    held_out = len(scope.heads) * len(scope.held_out_dtypes) * len(scope.held_out)
    jobs = {(p.lengths, p.num_kv_heads, p.dtype) for p in points if p.is_held_out}
    if len(jobs) < held_out:
        absent.append("part of the held-out jobs")
    return tuple(absent)
