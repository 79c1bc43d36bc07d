"""Measurements of a host that does not exist, from constants that tests know. Times nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from apexbench.engine.executors.profiling.measurements import (
    AttentionPoint,
    Copy,
    Handover,
    HostMeasurements,
    ReadLimit,
    StepTime,
    Timing,
    Wait,
)
from apexbench.engine.executors.profiling.quiet import Quietness

QUIET = Quietness(True, None, 0.1, 0.0, 0.01, 0.02)
NOISY = Quietness(False, "other processes took 40% of the CPUs", 3.0, 0.0, 0.4, 0.3)
LENGTHS = (16, 96, 288, 1056, 4128)
ROWS = (1, 4, 32)
# dtype and KV heads of 32 query heads -> bytes per token of one layer.
BYTES = {("fp16", 32): 16384, ("fp16", 8): 4096, ("int8", 32): 8320, ("int8", 8): 2080}
Factor = Callable[[int], float]


def line(_: int) -> float:
    """Jobs that lie on a straight line."""
    return 1.0


def cheap_when_long(length: int) -> float:
    """Jobs that no line goes through: the first lengths are on one, the others 20 % below it."""
    return 1.0 if length <= LENGTHS[2] else 0.8


def point(
    lengths: Sequence[int],
    *,
    dtype: str = "fp16",
    kv_heads: int = 32,
    threads: int = 1,
    gb_per_s: float = 20.0,
    row_us: float = 30.0,
    dispatch_us: float = 5.0,
    factor: Factor = line,
    **others,
) -> AttentionPoint:
    """A job that takes exactly what these constants say."""
    num_bytes = BYTES[dtype, kv_heads]
    seconds = dispatch_us * 1e-6
    for length in lengths:
        seconds += factor(length) * (row_us * 1e-6 + length * num_bytes / gb_per_s / 1e9)
    fixed = {"spread": 0.02, "round": 0} | others
    return AttentionPoint(
        dtype, 32, kv_heads, threads, tuple(lengths), sum(lengths) * num_bytes, seconds, **fixed
    )


def grid(**constants) -> list[AttentionPoint]:
    """Jobs of equal rows of all LENGTHS."""
    return [point((length,) * rows, **constants) for length in LENGTHS for rows in ROWS]


def measurements(**changes) -> HostMeasurements:
    """Two threads, fp16 and int8, MHA and groups of four; the second thread adds 60 %."""
    points = []
    for (dtype, heads), threads in ((key, count) for key in BYTES for count in (1, 2)):
        constants: dict[str, Any] = {
            "dtype": dtype, "kv_heads": heads, "threads": threads, "factor": cheap_when_long,
            "gb_per_s": 20.0 * (1 + 0.6 * (threads - 1)),
        }  # fmt: skip
        points += grid(**constants)
        points.append(point((3000,) * 7, **constants, is_held_out=True))
    timing = Timing(4e-6, 0.05, 100)
    found: dict[str, Any] = {
        "scope": "quick",
        "cores": 2,
        "memory_bytes": 24 << 30,
        "threads": (1, 2),
        "circumstances": {
            "cpu": "Test CPU", "isa": "avx512", "numa_nodes": 1, "governor": None,
            "cgroup_quota_cpus": None, "kernel_library_sha256": "ab" * 32,
            "versions": {"apexbench": "0", "numpy": "2", "python": "3.11"},
        },
        "reads": tuple(
            ReadLimit(threads, rate, 0.02)
            for threads, rate in ((1, 25.0), (2, 40.0), (1, 26.0), (2, 40.4), (1, 27.0), (2, 40.8))
        ),
        "attention": tuple(points),
        "copies": (Copy("memcpy", "out", "bytes", 1 << 20, Timing(1e-4, 0.1, 100)),),
        "handovers": (
            Handover("inline", "no pool", 0, Timing(4e-7, 0.01, 100), 5e-7),
            Handover("C", "spinning", 1, Timing(1e-6, 0.1, 100), 2e-6),
            Handover("Python", "spinning", 1, timing, 9e-6),
            Handover("C", "asleep", 1, Timing(3e-5, 0.1, 10), 5e-5),
        ),
        "waits": (Wait("sleep", 1e-3, Timing(7e-5, 0.1, 100)),),
        "steps": tuple(
            StepTime(rows, Timing((5.0 + 0.25 * rows) * 1e-6, 0.05, 100)) for rows in (1, 16, 256)
        ),
        "lane_step_s": 300e-6,
        "lane_in_layer_s": 60e-6,
        "quiet_before": QUIET,
        "quiet_during": QUIET,
        "missing": (),
        "wall_s": 12.5,
    }  # fmt: skip
    return HostMeasurements(**(found | changes))
