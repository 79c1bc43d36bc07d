"""`make fidelity`: emulated runs against the simulator; writes docs/fidelity.md.

`python -m tests.fidelity.run --help`. About a quarter of an hour, best on a machine that does
nothing else; needs 4 GiB of memory and two cores.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from apexbench.cli.main import run as apexbench
from apexbench.cpu_kernels.bench.calls import open_calls
from apexbench.cpu_kernels.bench.scope import QUICK
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.engine.clock import WallClock
from apexbench.engine.executors.cpu_kernels_state import cpu_kernels_state
from apexbench.engine.hardware import load_host
from apexbench.files import write_text_atomic
from apexbench.records import NS_PER_S
from tests.fidelity.cases import CASES, CPU_THREADS, POLICIES, Case
from tests.fidelity.compare import Compared, compare
from tests.fidelity.page import page
from tests.fidelity.record import ReadLimit, Recorded, record
from tests.fidelity.terms import terms_of


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every run is within its bounds, 1 otherwise."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not any(case.is_seen for case in _cases(options.cases)):
        parser.error("the terms need a seen workload: add osc, even or grouped to --cases")
    with _host(options.host) as host, _read_limit() as read_limit:
        runs = _recorded(_cases(options.cases), options.policies, host, read_limit)
        terms = terms_of([run for run in runs if run.case.is_seen], host)
        found = [compare(run, host, terms) for run in runs]
        profile = load_host(host)
    about = {"Host": profile.title, "CPU kernels": cpu_kernels_state().detail}
    write_text_atomic(options.out, page(found, terms, profile.core_gb_per_s.value, about))
    missed = [one for one in found if not one.is_kept]
    for one in missed:
        sys.stdout.write(f"missed: {_name(one)}\n")
    sys.stdout.write(f"wrote {options.out}; {len(missed)} of {len(found)} runs missed\n")
    return bool(missed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/fidelity.md"))
    parser.add_argument("--host", help="this host's profile; without it one is measured first")
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", default=names, choices=names)
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    return parser


def _cases(names: Sequence[str]) -> list[Case]:
    return [case for case in CASES if case.name in names]


def _recorded(
    cases: Sequence[Case], policies: Sequence[str], host: str, read_limit: ReadLimit
) -> list[Recorded]:
    runs, clock = [], WallClock()
    for case in cases:
        for policy in policies:
            runs.append(record(case, policy, host, read_limit))
            seconds = clock.now_ns() / NS_PER_S
            busy = f"; {runs[-1].disturbance}" if runs[-1].disturbance else ""
            sys.stderr.write(f"{seconds:6.0f} s  {case.name} {policy}{busy}\n")
    return runs


@contextmanager
def _host(path: str | None) -> Iterator[str]:
    """The given profile, or one that is measured now and lives as long."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="apexbench-fidelity-") as folder:
        target = str(Path(folder) / "local.toml")
        status = _run_profile(target)
        if status:
            sys.exit(status)
        yield target


def _run_profile(target: str) -> int:
    command = ["profile", "--profile-out", target, "--cpu-threads", str(CPU_THREADS)]
    return apexbench(command)


@contextmanager
def _read_limit() -> Iterator[ReadLimit]:
    calls = open_calls()
    bench = Workbench(
        *(calls, QUICK),
        levels=(calls.level(),),
        threads=(CPU_THREADS,),
        check=lambda: None,
        tell=lambda _: None,
    )
    try:
        yield lambda: float(bench.read_limit(CPU_THREADS)["gbps"])
    finally:
        bench.close()


def _name(one: Compared) -> str:
    run = one.recorded
    errors = f"replayed {one.replayed.throughput:+.1%} / {one.replayed.tpot:+.1%}"
    busy = f"; {run.disturbance}" if run.disturbance else ""
    return f"{run.case.name} {run.policy}: {errors}, choices {one.choices.share:.1%}{busy}"


if __name__ == "__main__":
    sys.exit(main())
