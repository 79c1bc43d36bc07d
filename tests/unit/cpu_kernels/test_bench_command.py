"""The bench as it is called: one sentence per error, exit codes, and nothing measured is lost."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from apexbench.cpu_kernels.bench import command, kv, page, run, table
from apexbench.cpu_kernels.bench.calls import Calls
from apexbench.cpu_kernels.bench.command import main, stop_requests
from apexbench.cpu_kernels.bench.document import Findings
from apexbench.cpu_kernels.bench.run import (
    OutOfTimeError,
    choose_levels,
    choose_sections,
    choose_threads,
    within_budget,
)
from apexbench.cpu_kernels.bench.scope import QUICK
from apexbench.cpu_kernels.bench.table import TableModel, attention_table
from apexbench.cpu_kernels.bench.workbench import Workbench
from apexbench.cpu_kernels.native import FALLBACK, VARIABLE, Library
from apexbench.errors import InputError, UsageError

Capture = pytest.CaptureFixture[str]
ROW = {"isa": "avx2", "repeats": 5, "preempted_repeats": 0, "ratio_to_read_limit": 1.5}


@pytest.fixture
def measured(compiled: Library, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the measuring: it finds a row, then ends as the test wants."""

    def replace(ending: BaseException | None = None, **row: Any) -> None:
        def measure(*arguments: Any) -> None:
            findings: Findings = arguments[3]
            findings.mixes.append(row)
            findings.rows += [ROW | row] if row else []
            if ending is not None:
                raise ending
            findings.ended_early = None

        monkeypatch.setattr(command, "measure", measure)
        monkeypatch.setattr(page, "render", lambda findings: "the page\n")

    return replace


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--quick", "--full"], "not allowed with"),
        (["--repeats", "four"], "four"),
        (["--repeats", "4"], "at least 5"),
        (["--dtypes", "fp61"], "did you mean fp16"),
        (["--threads", "one"], "--threads is 'one'"),
        (["--sections", "peer"], "did you mean peers"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.startswith("apexbench: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("option", ["--json", "--table"])
def test_a_file_that_cannot_be_written_is_known_before_anything_runs(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("open_calls", "attention_table"):
        monkeypatch.delattr(command, name)
    (tmp_path / "file").touch()
    assert main([option, str(tmp_path / "file" / "out.json")]) == 3
    assert capsys.readouterr().err.startswith("apexbench: cannot write")


def test_a_page_without_marks_is_known_before_anything_runs(
    tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "page.md").write_text("no marks", encoding="utf-8")
    assert main(["--page", str(tmp_path / "page.md")]) == 3
    assert "has no marks" in capsys.readouterr().err


def test_there_is_nothing_to_measure_in_the_fallback(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv(VARIABLE, FALLBACK)
    assert main(["--quick"]) == 3
    assert "not compiled here" in capsys.readouterr().err


def test_what_was_measured_is_written(
    measured: Callable[..., None], tmp_path: Path, capsys: Capture
) -> None:
    measured(ratio_to_read_limit=0.9)
    assert main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["is_complete"]
    assert document["rows"] == [ROW | {"ratio_to_read_limit": 0.9}]
    assert document["circumstances"]["scope"] == "quick"
    assert capsys.readouterr() == ("the page\n", "")  # no progress: this is no terminal


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [(KeyboardInterrupt(), 130, ""), (InputError("no memory"), 3, "apexbench: no memory\n")],
)
def test_what_was_measured_until_the_end_came_is_written(
    measured: Callable[..., None],
    ending: BaseException,
    code: int,
    words: str,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    measured(ending, gbps=1.0)
    assert main(["--json", str(tmp_path / "out.json")]) == code
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["rows"] == [ROW | {"gbps": 1.0}]
    assert not document["is_complete"]
    assert capsys.readouterr().err.startswith(words)


def test_a_void_run_says_so_and_fails(measured: Callable[..., None], capsys: Capture) -> None:
    measured(is_void=True)
    assert main([]) == 1
    assert "this run is void" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_first_and_interrupts_when_it_is_repeated(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_requests() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            stop.check()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_threads_are_those_of_this_process_and_one_is_always_measured() -> None:
    num_cpus = len(os.sched_getaffinity(0))
    assert choose_threads(()) == tuple(count for count in (1, 2) if count <= num_cpus)
    assert choose_threads((num_cpus,)) == tuple(sorted({1, num_cpus}))
    for count in (0, num_cpus + 1):
        with pytest.raises(UsageError, match=f"{count} threads"):
            choose_threads((count,))


def test_the_budget_of_a_scope_ends_a_run_between_measurements() -> None:
    times = iter([100.0, 149.9, 150.1])
    asked = []
    check = within_budget(lambda: asked.append(1), 50.0, lambda: next(times))
    check()
    with pytest.raises(OutOfTimeError):
        check()
    assert len(asked) == 2


def test_what_is_missing_when_the_time_is_over_is_said(
    compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(bench: Workbench, findings: Findings) -> None:
        findings.mixes.append({})

    def late(bench: Workbench, findings: Findings) -> None:
        raise OutOfTimeError

    calls = Calls(compiled)
    findings = run.begin(calls, QUICK)
    monkeypatch.setattr(run, "SECTIONS", {"a": found, "b": late, "c": found})
    monkeypatch.setattr(run, "Workbench", IdleWorkbench)
    run.measure(calls, QUICK, run.Wishes(), findings, (lambda: None, lambda _: None))
    assert findings.mixes == [{}]
    assert findings.warnings() == [
        "the 50.0 s of --quick were over: what was not measured is missing"
    ]
    assert "load_average_after" in findings.circumstances


class IdleWorkbench:
    """Nothing to measure with."""

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def close(self) -> None: ...


def test_sections_run_in_one_order_whatever_the_order_asked_for() -> None:
    assert choose_sections(()) == tuple(run.SECTIONS)
    assert choose_sections(("peers", "limits")) == ("limits", "peers")


def test_levels_are_those_of_the_machine_slowest_first(compiled: Library) -> None:
    calls = Calls(compiled)
    found = calls.supported_levels()
    assert choose_levels(calls, ()) == (tuple(found) or ("reference",))
    assert choose_levels(calls, (*found[::-1], "reference")) == ("reference", *found)
    with pytest.raises(UsageError, match="altivec"):
        choose_levels(calls, ("altivec",))


def test_the_table_has_every_combination_that_is_small_enough(
    compiled: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kv, "ROTATION_BYTES", 1 << 18)
    monkeypatch.setattr(kv, "PASS_BYTES", 1 << 16)
    monkeypatch.setattr(table, "PASS_BYTES", 1 << 16)
    # 2 rows of 64 tokens in fp16 are 2 * 64 * 2 heads * 32 * 2 (K, V) * 2 bytes.
    monkeypatch.setattr(table, "MAX_LAYER_BYTES", 2 * 64 * 2 * 32 * 2 * 2)
    checks = []
    found = attention_table(
        rows=(1, 2),
        tokens=(16, 64, 128),
        dtypes=("fp16", "int8"),
        model=TableModel(4, 2, 32, 16),
        num_repeats=2,
        check=lambda: checks.append(1),
    )
    entries = list(found)
    assert [(entry.rows, entry.tokens, entry.dtype) for entry in entries] == [
        *((1, 16, "fp16"), (1, 16, "int8"), (1, 64, "fp16"), (1, 64, "int8")),
        *((1, 128, "fp16"), (1, 128, "int8")),
        *((2, 16, "fp16"), (2, 16, "int8"), (2, 64, "fp16"), (2, 64, "int8")),
    ]
    assert len(checks) == 2 * len(entries)
    assert all(entry.threads == 1 and entry.seconds > 0 for entry in entries)


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_the_table_is_written_instead_of_a_bench(
    compiled: Library,
    is_interrupted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def entries(**_: Any) -> Iterator[table.TableEntry]:
        yield table.TableEntry(1, 16, "fp16", 1, 1e-6, 0.1)
        if is_interrupted:
            raise KeyboardInterrupt

    monkeypatch.setattr(command, "attention_table", entries)
    code = main(["--table", str(tmp_path / "table.json")])
    assert code == (130 if is_interrupted else 0)
    document = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert document["is_complete"] != is_interrupted
    assert document["entries"] == [
        {"rows": 1, "tokens": 16, "dtype": "fp16", "threads": 1, "seconds": 1e-6, "spread": 0.1}
    ]
    assert capsys.readouterr() == ("", "")
