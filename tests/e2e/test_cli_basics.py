"""The command line as typed: help, listings, doctor, report, and every way to fail politely."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from apexbench import __version__
from apexbench.cli import doctor
from apexbench.cli.exits import guard
from apexbench.cli.main import COMMANDS, run
from apexbench.errors import ApexbenchError, InputError, InvariantError, UsageError
from apexbench.result import read, to_json
from tests import synthetic_result

Capture = pytest.CaptureFixture[str]
LISTS = ("gpus", "hosts", "models", "policies", "workloads")
SLOW_TO_IMPORT = ("numpy", "pandas", "plotly", "pyarrow", "scipy", "torch", "jinja2")


def in_a_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """`apexbench ARGUMENTS` in an interpreter of its own, as the console script starts it."""
    code = "from apexbench.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, check=False, **settings)


def listing(kind: str, capsys: Capture) -> list[dict[str, Any]]:
    assert run(["list", kind, "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def complaint(arguments: list[str], code: int, capsys: Capture) -> str:
    """The one sentence that `arguments` end with."""
    assert run(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    (sentence,) = output.err.splitlines()
    assert sentence.startswith("apexbench: ")
    return sentence.removeprefix("apexbench: ")


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"apexbench {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_command(arguments: list[str], capsys: Capture) -> None:
    assert run(arguments) == 0
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_imports_nothing_slow(command: list[str]) -> None:
    code = (
        "import sys; from apexbench.cli.main import run; code = run(sys.argv[2:]);"
        "sys.stderr.write(' '.join(n for n in sys.argv[1].split() if n in sys.modules));"
        "sys.exit(code)"
    )
    call = [sys.executable, "-c", code, " ".join(SLOW_TO_IMPORT), *command, "--help"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: apexbench")


@pytest.mark.parametrize("kind", LISTS)
def test_list_names_are_distinct_and_shown_whole_in_a_narrow_terminal(
    kind: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [row["name"] for row in listing(kind, capsys)]
    assert len(set(names)) == len(names) > 1
    assert run(["list", kind]) == 0
    table = capsys.readouterr().out
    assert all(any(line.startswith(name) for line in table.splitlines()) for name in names)


def test_listed_gpus_name_listed_hosts(capsys: Capture) -> None:
    hosts = {row["name"] for row in listing("hosts", capsys)}
    defaults = {row["name"]: row["default_host"] for row in listing("gpus", capsys)}
    assert {host for host in defaults.values() if host} <= hosts
    assert defaults["t4"] == "xeon-6130x2"
    assert defaults["a10"] == "xeon-6342x2"


def test_listed_policies_hold_the_default_ones(capsys: Capture) -> None:
    from apexbench.config import DEFAULT_POLICIES

    names = {row["name"] for row in listing("policies", capsys)}
    assert {policy.partition("+")[0] for policy in DEFAULT_POLICIES} <= names


def test_listed_models_carry_their_kv_size(capsys: Capture) -> None:
    sizes = {row["name"]: row["kv_kib_per_token"] for row in listing("models", capsys)}
    assert sizes["llama-2-7b"] == 512  # 2 x 32 layers x 4096 x 2 bytes
    assert sizes["llama-3.1-8b"] == 128  # 2 x 32 layers x 1024 x 2 bytes


def test_unknown_list_names_near_ones(capsys: Capture) -> None:
    sentence = complaint(["list", "polices"], 2, capsys)
    assert sentence == "unknown list 'polices'; did you mean policies?"


@pytest.mark.parametrize(
    "arguments",
    [["comparee"], ["--nope"], ["doctor", "--nope"], ["list"], ["report", "a", "b"], ["report"]],
)
def test_wrong_command_lines_are_one_sentence(arguments: list[str], capsys: Capture) -> None:
    complaint(arguments, 2, capsys)


def test_group_without_command_shows_its_help(capsys: Capture) -> None:
    assert run(["trace"]) == 2
    assert capsys.readouterr().err.startswith("Usage: apexbench trace")


def test_report_prints_its_schema_without_a_file(capsys: Capture) -> None:
    assert run(["report", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["schema_version"]["const"] == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"[]", "has schema_version None"),
        (b'{"schema_version": 99}', "has schema_version 99"),
        (b'{"schema_version": 1}', "is not a valid result"),
    ],
)
def test_unusable_results_are_one_sentence(
    content: bytes, reason: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(content)
    assert reason in complaint(["report", str(file)], 3, capsys)
    assert reason in complaint(["report", str(tmp_path)], 3, capsys)


@pytest.fixture(scope="module")
def result_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result document of invented numbers, written as `compare` writes it."""
    file = tmp_path_factory.mktemp("out") / "result.json"
    file.write_text(to_json(synthetic_result.build()), encoding="utf-8")
    return file


def test_report_without_options_prints_the_summary(result_file: Path, capsys: Capture) -> None:
    assert run(["report", str(result_file)]) == 0
    from_file = capsys.readouterr()
    assert "gpu-only" in from_file.out
    assert run(["report", str(result_file.parent)]) == 0
    assert capsys.readouterr() == from_file


def test_report_writes_every_form_that_was_asked_for(
    result_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    html, trace, tables = tmp_path / "a.html", tmp_path / "a.json", tmp_path / "made" / "tables"
    options = ["--html", str(html), "--perfetto", str(trace), "--csv", str(tables)]
    assert run(["report", str(result_file), *options, "--markdown", "-"]) == 0
    document = read(result_file)
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    rows = (tables / "runs.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(document.runs)
    assert "gpu-only" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--html", "--markdown", "--perfetto", "--csv"])
def test_report_that_cannot_be_written_is_one_sentence(
    option: str, result_file: Path, tmp_path: Path, capsys: Capture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("x")
    target = in_the_way / "x"
    sentence = complaint(["report", str(result_file), option, str(target)], 3, capsys)
    assert sentence.startswith(f"cannot write '{target}'")
    assert in_the_way.read_text() == "x"


def test_missing_result_is_one_sentence(tmp_path: Path, capsys: Capture) -> None:
    sentence = complaint(["report", str(tmp_path / "none.json")], 3, capsys)
    assert sentence.startswith("cannot read result file")


def test_doctor_finds_the_simulator_sound_here(capsys: Capture) -> None:
    assert run(["doctor", "--json"]) == 0
    findings = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    needed = ("python", "packages", "layout")
    assert {name: findings[name]["state"] for name in needed} == dict.fromkeys(needed, "ok")
    assert {item["state"] for item in findings.values()} <= {"ok", "note"}


def test_doctor_prints_one_line_per_finding(capsys: Capture) -> None:
    assert run(["doctor"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(doctor.CHECKS)


def test_doctor_fails_with_the_cure_when_a_needed_package_is_missing(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = ["numpy>=2.2", "apexbench-imaginary>=1", "pydantic<1", "x>=1; extra == 'test'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    assert run(["doctor"]) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("broken")]
    assert "apexbench-imaginary is missing, pydantic is" in line
    assert line.endswith("run: pip install -c constraints.txt -e .")


@pytest.mark.parametrize(
    ("quota_v2", "quota_v1", "cores"),
    [
        ("150000 100000\n", "", 1.5),
        ("max 100000\n", "", None),
        ("", "200000", 2.0),
        ("", "-1", None),
        ("", "", None),
    ],
)
def test_doctor_reads_both_kinds_of_cgroup_quota(
    quota_v2: str, quota_v1: str, cores: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "/sys/fs/cgroup/cpu.max": quota_v2,
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota_v1,
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000" if quota_v1 else "",
    }
    monkeypatch.setattr(doctor, "_read", files.__getitem__)
    assert doctor._cpu_quota() == cores


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("no such gpu"), 2, ["apexbench: no such gpu"]),
        (UsageError("first.\nsecond."), 2, ["apexbench: first.", "apexbench: second."]),
        (InputError("bad row 3"), 3, ["apexbench: bad row 3"]),
        (ApexbenchError("run failed"), 4, ["apexbench: run failed"]),
        (InvariantError("law broken"), 4, ["apexbench: law broken"]),
        (KeyboardInterrupt(), 130, ["apexbench: interrupted"]),
        (typer.Abort(), 130, ["apexbench: interrupted"]),
        (SystemExit(7), 7, []),
        (SystemExit(None), 0, []),
    ],
)
def test_errors_become_sentences_and_exit_codes(
    error: BaseException, code: int, words: list[str], capsys: Capture
) -> None:
    def fail() -> None:
        raise error

    assert guard(fail) == code
    assert capsys.readouterr().err.splitlines() == words


def test_bug_is_one_sentence_that_says_how_to_see_more(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("over\nzero")

    monkeypatch.delenv("APEXBENCH_DEBUG", raising=False)
    assert guard(fail) == 4
    (sentence,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: over zero; APEXBENCH_DEBUG=1 shows where" in sentence
    monkeypatch.setenv("APEXBENCH_DEBUG", "1")
    assert guard(fail) == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "code"), [(None, 0), (1, 1), ("text", 0), (True, 1)])
def test_command_may_return_its_exit_code(value: object, code: int) -> None:
    assert guard(lambda: value) == code


@pytest.mark.parametrize("arguments", [["report", "--schema"], ["doctor"], ["--version"]])
def test_closed_pipe_is_silent(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = in_a_process(*arguments, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_to_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = in_a_process("report", "--schema", stdout=full)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr.splitlines()[0]
