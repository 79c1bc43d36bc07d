"""`apexbench profile`: measures this host and writes its device profile."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.cli.interrupts import StopRequest, deferred
from apexbench.cli.options import Text
from apexbench.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from apexbench.engine.executors.profiling.measurements import HostMeasurements
    from apexbench.engine.hardware import HostProfile
    from apexbench.profiling.profile import ProfiledHost

STDOUT = "-"
DEFAULT_PATH = Path("local.toml")
# Launch overheads of a server core of one generation ago, for want of a GPU to measure them with.
DEFAULT_BASE_HOST = "g6.4xlarge"
# A profile of ours names its tool; more of a file need not be read to know it.
_OUR_MARK = 'tool = "apexbench profile"'


def profile(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer shapes, one round: below 20 s.")
    ] = False,
    profile_out: Annotated[
        Text, typer.Option(metavar="PATH|-", help="The profile (default: local.toml).")
    ] = None,
    cpu_threads: Annotated[
        int | None, typer.Option(metavar="N", help="Measure at most N worker threads.")
    ] = None,
    base_host: Annotated[
        str,
        typer.Option(metavar="NAME", help="Host whose launch overheads are carried over."),
    ] = DEFAULT_BASE_HOST,
    json: Annotated[
        Text, typer.Option(metavar="PATH|-", help="Every measured point, as JSON.")
    ] = None,
) -> None:
    """Measure this host for --host: memory, CPU attention, copies, scheduling; below 2 minutes."""
    from rich.console import Console

    from apexbench.engine.hardware import load_host

    targets = _Targets(profile_out, json)
    base = load_host(base_host)
    targets.check()
    with deferred() as stop:
        measured = _measure(stop, cpu_threads, is_quick=quick)
        host = _profiled(targets.name, measured, base)
        written = targets.write(host)
    _print(host, written, Console(stderr=targets.uses_stdout, highlight=False), targets)


class _Targets:
    """Where the profile and the points go."""

    def __init__(self, profile_out: str | None, json: str | None) -> None:
        if profile_out == STDOUT and json == STDOUT:
            raise UsageError(
                "--profile-out - and --json - both want standard output; name a file for one"
            )
        self._is_default = profile_out is None
        self._profile = profile_out or str(DEFAULT_PATH)
        self._json = json

    @property
    def uses_stdout(self) -> bool:
        """Whether a document goes to standard output, and so everything else must not."""
        return STDOUT in (self._profile, self._json)

    @property
    def name(self) -> str:
        """What the host is called in reports: the file's name."""
        return DEFAULT_PATH.stem if self._profile == STDOUT else Path(self._profile).stem

    @property
    def host_option(self) -> str:
        """What to pass as --host, as a shell wants it."""
        return quote(str(DEFAULT_PATH) if self._profile == STDOUT else self._profile)

    def check(self) -> None:
        """Before the run: it can be written, and nobody loses a file that is not ours."""
        from apexbench.files import check_target

        if self._profile != STDOUT and not self._profile.endswith(".toml"):
            raise UsageError(
                f"--profile-out is '{self._profile}'; expected a name that ends in .toml, or '-'"
            )
        for target in (self._profile, self._json):
            if target is not None and target != STDOUT:
                check_target(target)
                if Path(target).is_dir():
                    raise InputError(f"cannot write '{target}': it is a directory; name a file")
        if self._is_default and DEFAULT_PATH.exists() and not _is_ours(DEFAULT_PATH):
            raise UsageError(
                f"'{DEFAULT_PATH}' exists and is not a profile of apexbench profile; name another"
                " file with --profile-out"
            )

    def write(self, host: "ProfiledHost") -> list[str]:
        """A sentence for every file that was written."""
        from apexbench.profiling.profile import to_json, to_toml

        documents = [(self._profile, to_toml(host))]
        if self._json is not None:
            documents.append((self._json, to_json(host)))
        return [sentence for path, text in documents if (sentence := _write(path, text))]


def _write(path: str, text: str) -> str | None:
    from apexbench.files import write_text_atomic

    if path == STDOUT:
        typer.echo(text, nl=False)
        return None
    is_replaced = Path(path).exists()
    write_text_atomic(path, text)
    return f"{'replaced' if is_replaced else 'wrote'} {path}"


def _is_ours(path: Path) -> bool:
    try:
        return _OUR_MARK in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _measure(stop: StopRequest, cpu_threads: int | None, *, is_quick: bool) -> "HostMeasurements":
    """With a bar on a terminal. Loads the kernels only now: what is wrong before was said."""
    from rich.console import Console

    from apexbench.cli.profile_bar import ProfileBar
    from apexbench.engine.executors.profiling.host import SCOPES, measure_host
    from apexbench.engine.executors.profiling.pace import Watchers

    console = Console(stderr=True, highlight=False)
    with ProfileBar(console, is_shown=sys.stderr.isatty()) as bar:
        watchers = Watchers(stop.check, bar.move)
        return measure_host(SCOPES["quick" if is_quick else "full"], cpu_threads, watchers)


def _profiled(name: str, measured: "HostMeasurements", base: "HostProfile") -> "ProfiledHost":
    from apexbench import __version__
    from apexbench.profiling.profile import profiled

    return profiled(name, measured, base, created_at=_created_at(), version=__version__)


def _created_at() -> str:
    """Now, or what SOURCE_DATE_EPOCH says now is."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    return moment.isoformat(timespec="seconds")


def _print(host: "ProfiledHost", written: list[str], console: "Console", targets: _Targets) -> None:
    from apexbench.cli.profile_tables import print_profile

    print_profile(host, console)
    for sentence in (*host.warnings, *written):
        console.print(f"apexbench: {sentence}", markup=False, soft_wrap=True)
    command = f"apexbench compare --host {targets.host_option} --gpu t4"
    console.print(f"\nNext: {command}", markup=False, soft_wrap=True)
