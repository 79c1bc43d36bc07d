"""The order of measurements; each adds to the findings as soon as it has something."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from apexbench.cpu_kernels.bench.calls import Calls
from apexbench.cpu_kernels.bench.document import Findings
from apexbench.cpu_kernels.bench.jobs import measure_mix, measure_small_jobs
from apexbench.cpu_kernels.bench.machine import describe_machine
from apexbench.cpu_kernels.bench.overhead import measure_overheads, measure_urgent
from apexbench.cpu_kernels.bench.peers.contest import measure_peers
from apexbench.cpu_kernels.bench.scope import Scope
from apexbench.cpu_kernels.bench.speed import measure_batches, measure_main
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.errors import UsageError, unknown_name

DEFAULT_THREADS = (1, 2)


class OutOfTimeError(Exception):
    """The scope's budget is over; raised between measurements."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a user chose beyond the scope; empty: the default."""

    levels: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    sections: tuple[str, ...] = ()


def begin(calls: Calls, scope: Scope) -> Findings:
    """Findings of a run that is about to begin, with the circumstances of now."""
    library = {"compiler": calls.library.compiler, "levels": calls.supported_levels()}
    return Findings(
        describe_machine()
        | library
        | {"reader_vectors": calls.c.apx_reader_vectors().decode()}
        | {"scope": scope.name, "repeats": scope.num_repeats, "chosen": asdict(scope)}
    )


def measure(
    calls: Calls,
    scope: Scope,
    wishes: Wishes,
    findings: Findings,
    watch: tuple[Callable[[], None], Callable[[str], None]],
) -> None:
    """Run the sections; `findings` has what was done when KeyboardInterrupt or an error ends it.

    watch: `check`, which is called between passes and may raise, and `tell`, which takes a line on
    what is being done. Raises UsageError for levels, threads and sections that do not exist.
    """
    levels, threads = choose_levels(calls, wishes.levels), choose_threads(wishes.threads)
    sections = choose_sections(wishes.sections)
    check, tell = within_budget(watch[0], scope.budget_s), watch[1]
    bench = Workbench(calls, scope, levels=levels, threads=threads, check=check, tell=tell)
    try:
        for section in sections:
            SECTIONS[section](bench, findings)
        findings.ended_early = None
    except OutOfTimeError:
        findings.ended_early = f"the {scope.budget_s} s of --{scope.name} were over"
    finally:
        bench.close()
        findings.circumstances["load_average_after"] = list(os.getloadavg())


def within_budget(
    check: Callable[[], None], budget_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Callable[[], None]:
    """`check`, which also raises OutOfTimeError once `budget_s` seconds from now are over."""
    end_s = math.inf if budget_s is None else clock() + budget_s

    def checked() -> None:
        check()
        if clock() > end_s:
            raise OutOfTimeError

    return checked


def choose_levels(calls: Calls, wished: Sequence[str]) -> tuple[str, ...]:
    """The levels to measure, slowest first; UsageError for one this CPU or build lacks."""
    found = tuple(calls.supported_levels())
    for name in wished:
        if name not in (*found, "reference"):
            raise unknown_name("or unsupported ISA level", name, found)
    return tuple(sorted(wished, key=("reference", *found).index)) or found or ("reference",)


def choose_threads(wished: Sequence[int]) -> tuple[int, ...]:
    """How many threads at a time, ascending, within the CPUs this process may use."""
    num_cpus = len(os.sched_getaffinity(0))
    for count in wished:
        if not 1 <= count <= num_cpus:
            raise UsageError(
                f"{count} threads were asked for; this process may use 1 to {num_cpus}"
            )
    wanted = wished or [count for count in DEFAULT_THREADS if count <= num_cpus]
    return tuple(sorted({1, *wanted}))


def choose_sections(wished: Sequence[str]) -> tuple[str, ...]:
    """Sections in the order they run."""
    for name in wished:
        if name not in SECTIONS:
            raise unknown_name("section", name, SECTIONS)
    return tuple(name for name in SECTIONS if name in (wished or SECTIONS))


def _limits(bench: Workbench, findings: Findings) -> None:
    for threads in bench.threads:
        bench.tell(f"read limit, {threads} threads")
        findings.read_limits[threads] = bench.read_limit(threads)


def _kernels(bench: Workbench, findings: Findings) -> None:
    for rows, comparisons in measure_main(bench):
        findings.rows += rows
        findings.comparisons += comparisons


def _batches(bench: Workbench, findings: Findings) -> None:
    for rows in measure_batches(bench):
        findings.rows += rows


def _small_jobs(bench: Workbench, findings: Findings) -> None:
    for row in measure_small_jobs(bench):
        findings.small_jobs.append(row)


def _mix(bench: Workbench, findings: Findings) -> None:
    for row in measure_mix(bench):
        findings.mixes.append(row)


def _overheads(bench: Workbench, findings: Findings) -> None:
    findings.overheads += measure_overheads(bench)
    findings.overheads += measure_urgent(bench)


def _peers(bench: Workbench, findings: Findings) -> None:
    for rows in measure_peers(bench):
        findings.peers += rows


SECTIONS: dict[str, Callable[[Workbench, Findings], Any]] = {
    "limits": _limits,
    "overheads": _overheads,
    "kernels": _kernels,
    "small-jobs": _small_jobs,
    "mix": _mix,
    "batches": _batches,
    "peers": _peers,
}
