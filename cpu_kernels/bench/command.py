"""`python -m apexbench.cpu_kernels.bench`: options, progress, output files and exit codes."""

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from apexbench.cpu_kernels.bench import page
from apexbench.cpu_kernels.bench.calls import open_calls
from apexbench.cpu_kernels.bench.document import SCHEMA_VERSION, Findings
from apexbench.cpu_kernels.bench.machine import describe_machine
from apexbench.cpu_kernels.bench.peers.contest import choose_peers
from apexbench.cpu_kernels.bench.run import SECTIONS, Wishes, begin, choose_threads, measure
from apexbench.cpu_kernels.bench.scope import DEFAULT, FULL, QUICK, Scope
from apexbench.cpu_kernels.bench.table import TABLE_DTYPES, attention_table
from apexbench.cpu_kernels.geometry import KV_DTYPES, KvDtype
from apexbench.errors import ApexbenchError, UsageError, unknown_name
from apexbench.files import check_target, write_text_atomic

OK, VOID, INTERRUPTED = 0, 1, 130
CLEAR_LINE = "\r\x1b[K"


def main(arguments: Sequence[str] | None = None) -> int:
    """0, 1 when the run is void, 2 usage, 3 set-up, 130 interrupted (what is done is written)."""
    try:
        options = _parse(arguments)
        for target in (options.json, options.table):
            if target is not None:
                check_target(target)
        return _write_table(options) if options.table else _bench(options)
    except ApexbenchError as error:
        return _explain(error)
    except KeyboardInterrupt:
        _say("apexbench: interrupted")
        return INTERRUPTED


class StopRequest:
    """Ctrl-C and SIGTERM are noted and raise only where nothing is half done; twice: at once."""

    def __init__(self) -> None:
        self._is_asked = False

    def check(self) -> None:
        """KeyboardInterrupt if somebody asked."""
        if self._is_asked:
            raise KeyboardInterrupt

    def note(self, number: int, _frame: FrameType | None) -> None:
        """The handler."""
        self._is_asked = True
        signal.signal(number, signal.default_int_handler)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle both signals, unless whoever started us had them ignored (nohup)."""
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, request.note)
    try:
        yield request
    finally:
        for number, old in ours.items():
            signal.signal(number, old)


class Progress:
    """One line on standard error that says what is measured; nothing unless it is a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()

    def tell(self, line: str) -> None:
        """Replace the line."""
        if self._is_shown:
            sys.stderr.write(CLEAR_LINE + line)
            sys.stderr.flush()

    def clear(self) -> None:
        """Leave nothing behind."""
        self.tell("")


class _Parser(argparse.ArgumentParser):
    """Errors in one sentence, like everywhere else."""

    def error(  # type: ignore[explicit-override]  # typing.override came with 3.12
        self, message: str
    ) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m apexbench.cpu_kernels.bench", description=page.__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer shapes and repeats: a minute")
    size.add_argument("--full", action="store_true", help="also fp32, fp8 and more block sizes")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the result document")
    parser.add_argument("--page", type=Path, metavar="PATH", help="replace the tables in a page")
    parser.add_argument(
        "--table", type=Path, metavar="PATH", help="measure the device profile's table instead"
    )
    for name, what in (("isa", "levels"), ("dtypes", "KV dtypes"), ("sections", "sections")):
        parser.add_argument(f"--{name}", default="", metavar="A,B", help=f"only these {what}")
    parser.add_argument(
        "--peers", default="", metavar="A,B", help="only peers with one of these in their name"
    )
    parser.add_argument("--threads", default="", metavar="1,2", help="numbers of worker threads")
    parser.add_argument("--repeats", type=int, help="interleaved repeats, at least 5")
    options = parser.parse_args(arguments)
    options.kv_dtypes = _kv_dtypes(_names(options.dtypes))
    return options


def _kv_dtypes(names: Sequence[str]) -> tuple[KvDtype, ...]:
    for name in names:
        if name not in KV_DTYPES:
            raise unknown_name("KV dtype", name, KV_DTYPES)
    return tuple(dtype for dtype in KV_DTYPES if dtype in names)


def _bench(options: argparse.Namespace) -> int:
    scope, wishes = _scope(options), _wishes(options)
    if options.page is not None:
        page.check_marks(options.page)
    calls = open_calls()
    findings, progress = begin(calls, scope), Progress()
    code = OK
    with stop_requests() as stop:
        try:
            measure(calls, scope, wishes, findings, (stop.check, progress.tell))
        except KeyboardInterrupt:
            code = INTERRUPTED
        except ApexbenchError as error:
            code = _explain(error)
    progress.clear()
    _write(findings, options)
    return code or (OK if findings.is_valid else VOID)


def _write(findings: Findings, options: argparse.Namespace) -> None:
    if options.json is not None:
        write_text_atomic(options.json, findings.to_json())
    if options.page is not None:
        page.write_into(options.page, findings)
    sys.stdout.write(page.render(findings))
    for warning in findings.warnings():
        _say(f"apexbench: {warning}")


def _write_table(options: argparse.Namespace) -> int:
    progress, code = Progress(), OK
    entries: list[dict[str, Any]] = []
    threads = choose_threads(_numbers(options.threads))
    dtypes = tuple(options.kv_dtypes) or TABLE_DTYPES
    with stop_requests() as stop:
        try:
            for entry in attention_table(threads=threads, dtypes=dtypes, check=stop.check):
                entries.append(asdict(entry))
                progress.tell(f"{entry.rows} rows of {entry.tokens} tokens, {entry.dtype}")
        except KeyboardInterrupt:
            code = INTERRUPTED
    progress.clear()
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "cpu_attention_table",
        "is_complete": code == OK,
        "circumstances": describe_machine(),
        "entries": entries,
    }
    write_text_atomic(options.table, json.dumps(document, indent=2) + "\n")
    return code


def _scope(options: argparse.Namespace) -> Scope:
    scope = QUICK if options.quick else FULL if options.full else DEFAULT
    if options.kv_dtypes:
        scope = replace(scope, kv_dtypes=options.kv_dtypes)
    peers = _names(options.peers)
    choose_peers(peers)
    scope = replace(scope, peers=peers)
    if options.repeats is not None:
        scope = replace(scope, num_repeats=options.repeats)
    return scope.checked()


def _wishes(options: argparse.Namespace) -> Wishes:
    sections = _names(options.sections)
    for name in sections:
        if name not in SECTIONS:
            raise unknown_name("section", name, SECTIONS)
    return Wishes(_names(options.isa), _numbers(options.threads), sections)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(name) for name in _names(text))
    except ValueError as error:
        raise UsageError(f"--threads is '{text}'; expected numbers such as 1,2") from error


def _explain(error: ApexbenchError) -> int:
    _say(f"apexbench: {error}")
    return error.exit_code


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
