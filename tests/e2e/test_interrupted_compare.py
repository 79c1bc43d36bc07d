"""Ctrl-C, SIGTERM and dying processes: what has ended is written, and nothing is left behind."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apexbench.cli.interrupts import REPEAT_S
from tests.e2e.watched import LONG, PATIENCE_S, SMALL, START, Watched

# The same, and says from when on a signal finds the command's handlers and not the interpreter's.
START_ALOUD = (
    "from apexbench.cli import interrupts; interrupts.end_at_once();"
    f"import sys; print('started', file=sys.stderr, flush=True); {START}"
)
SPAN_S = 4.0  # of the random moments; a comparison as SMALL takes one to three seconds here
FILES = {"result.json", "requests.parquet", "summary.md", "trace.json", "report.html"}
NUM_MOMENTS = 12
PARTIAL = "apexbench: interrupted; the result holds the runs that had ended"


def _to_parent(watched: Watched) -> None:
    os.kill(watched.process.pid, signal.SIGINT)


def _to_group(watched: Watched) -> None:
    os.killpg(watched.process.pid, signal.SIGINT)


def _terminate(watched: Watched) -> None:
    os.killpg(watched.process.pid, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("send", [_to_parent, _to_group, _terminate])
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("rates", "moment"),
    [("inf", r"saturation.*runs [1-9]\d*/12"), ("1x", r"rates.*runs \d+/12")],
    ids=["saturation", "rates"],
)
def test_interrupt_writes_what_is_done(
    send: Callable[[Watched], None], jobs: str, rates: str, moment: str, tmp_path: Path
) -> None:
    long = LONG if rates == "inf" else (*LONG, "--requests", "300")
    with Watched([*long, "--rate", rates, "--jobs", jobs, "--out", str(tmp_path)]) as watched:
        watched.read_until(moment)
        send(watched)
        assert watched.wait() == 130
    assert watched.is_clean()
    assert watched.sentences() == [PARTIAL]
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_partial"] is True
    assert 1 <= len(document["runs"]) < 24
    assert (tmp_path / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(
    ("phase", "option"),
    [("draws", ("--draws", "60")), ("sweeps", ("--sweep", "gpu_kv_tokens=2000,3000,4000,6000"))],
)
def test_interrupt_of_a_later_phase_keeps_the_runs(
    phase: str, option: tuple[str, str], jobs: str, tmp_path: Path
) -> None:
    with Watched([*SMALL, *option, "--jobs", jobs, "--out", str(tmp_path)]) as watched:
        watched.read_until(phase + r".*runs \d")
        _to_parent(watched)
        assert watched.wait() == 130
    assert watched.sentences() == [PARTIAL]
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_partial"]
    assert len(document["runs"]) == 8


def test_interrupt_before_any_result_says_so(tmp_path: Path) -> None:
    endless = (*LONG, "--requests", "200000", "--rate", "inf", "--out", str(tmp_path))
    with Watched([*endless, "--jobs", "2"]) as watched:
        watched.read_until(r"runs 0/12")
        _to_group(watched)
        assert watched.wait() == 130
    assert watched.sentences() == [
        "apexbench: interrupted before any run had ended; nothing written"
    ]
    assert not list(tmp_path.iterdir())
    assert watched.is_clean()


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(NUM_MOMENTS))
def test_interrupt_at_any_moment_ends_cleanly(moment: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(moment)
    send = (_to_parent, _to_group, _terminate)[rng.integers(3)]
    jobs = str(rng.integers(1, 3))
    small = [*SMALL, "--jobs", jobs, "--out", str(tmp_path)]
    with Watched(small, start=START_ALOUD) as watched:
        watched.read_until("started")
        time.sleep(rng.uniform(0, SPAN_S) if moment else 0)
        send(watched)
        code = watched.wait()
    assert watched.is_clean()
    assert code == 130 or (code == 0 and moment > 0)
    assert [s.partition(";")[0].split()[1] for s in watched.sentences()] == ["interrupted"] * (
        code == 130
    )
    written = {file.name for file in tmp_path.iterdir()}
    assert written in (set(), FILES)
    if written:
        document = json.loads((tmp_path / "result.json").read_text())
        assert document["is_partial"] or len(document["runs"]) == 8
        assert document["is_partial"] == (watched.sentences() == [PARTIAL])
    assert written or code == 130


def test_impatient_interrupt_ends_at_once_and_keeps_what_is_written(tmp_path: Path) -> None:
    """The command waits for a reader of the pipe, with everything else written."""
    pipe, out = tmp_path / "pipe", tmp_path / "out"
    os.mkfifo(pipe)
    with Watched([*SMALL, "--jobs", "2", "--out", str(out), "--json", str(pipe)]) as watched:
        _poll((out / "report.html").exists)
        _to_parent(watched)
        _to_parent(watched)  # as a wrapper that passes on what the terminal has sent already
        time.sleep(REPEAT_S * 1.2)
        assert watched.process.poll() is None
        _to_parent(watched)
        assert watched.wait() == 130
    assert watched.sentences() == ["apexbench: interrupted twice; what was not written yet is lost"]
    assert watched.is_clean()
    assert {file.name for file in out.iterdir()} == FILES
    assert not json.loads((out / "result.json").read_text())["is_partial"]


def test_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """A shell starts background jobs of a script so, and nohup does the like."""
    ignoring = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {START}"
    with Watched([*SMALL, "--jobs", "2", "--out", str(tmp_path)], start=ignoring) as watched:
        watched.read_until("runs 0/")
        _to_group(watched)
        assert watched.wait() == 0
    assert watched.sentences() == []


def _poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_dying_worker_costs_no_finished_run(tmp_path: Path) -> None:
    with Watched([*LONG, "--rate", "1x,inf", "--jobs", "2", "--out", str(tmp_path)]) as watched:
        watched.read_until(r"runs [1-9]\d*/12")
        os.kill(watched.workers()[0], signal.SIGKILL)
        assert watched.wait() == 4
    assert watched.is_clean()
    (sentence,) = watched.sentences()
    assert "a worker process ended unexpectedly (killed, or out of memory)" in sentence
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_partial"] is True
    assert 1 <= len(document["runs"]) < 12


@pytest.mark.parametrize("moment", [r"runs 0/12", r"requests [1-9][\d,]*/"])
def test_workers_end_with_a_parent_that_was_killed(moment: str, tmp_path: Path) -> None:
    endless = (*LONG, "--requests", "200000", "--rate", "inf", "--out", str(tmp_path))
    with Watched([*endless, "--jobs", "2"]) as watched:
        watched.read_until(moment)
        watched.process.kill()
        assert watched.wait() == -signal.SIGKILL
    assert watched.is_clean()
