"""`apexbench compare` from the outside: equal bytes, interrupts, dying workers, progress."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import apexbench
from apexbench.result import load

START = "from apexbench.cli.main import main; main()"
# Small, two variants, both phases, one scenario.
SMALL = ("--gpu", "t4", "--workload", "osc", "--requests", "30", "--seeds", "2",
         "--rate", "0.8x,inf", "--policies", "gpu-only,apex")  # fmt: skip
# Seconds per run and many seeds: there is always something left to interrupt.
LONG = ("--gpu", "a10", "--workload", "fixed:64/64", "--requests", "3000", "--seeds", "12",
        "--policies", "gpu-only")  # fmt: skip
PATIENCE_S = 60  # for a hung process only
FIXED_DATE = {"SOURCE_DATE_EPOCH": "1700000000"}


def compare(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`apexbench compare ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", START, "compare", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip


# --- equal bytes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same comparison in one process and in two."""
    out = tmp_path_factory.mktemp("twice")
    for jobs in ("1", "2"):
        done = compare(*SMALL, "--jobs", jobs, "--out", str(out / jobs), **FIXED_DATE)
        assert (done.returncode, done.stderr) == (0, "")
    return out / "1", out / "2"


def test_equal_seeds_give_equal_bytes_whatever_the_jobs(twice: tuple[Path, Path]) -> None:
    first, second = (json.loads((out / "result.json").read_text()) for out in twice)
    first.pop("environment")
    second.pop("environment")
    assert json.dumps(first) == json.dumps(second)
    for name in ("requests.parquet", "summary.md", "trace.json", "report.html"):
        one, two = ((out / name).read_bytes() for out in twice)
        assert one == two, name


def test_frames_agree_with_the_document(twice: tuple[Path, Path]) -> None:
    document = json.loads((twice[0] / "result.json").read_text())
    frames = load(twice[0])
    assert len(frames.runs) == len(document["runs"]) == 8
    speeds = [run["metrics"]["output_throughput_tok_s"] for run in document["runs"]]
    assert frames.runs["output_throughput_tok_s"].tolist() == speeds
    assert frames.comparisons["ratio"].tolist() == [c["ratio"] for c in document["comparisons"]]
    assert isinstance(frames.requests, pd.DataFrame)
    for run in document["runs"]:
        rows = frames.requests.query(
            "setting == @run['setting'] and variant == @run['variant'] and seed == @run['seed']"
        )
        assert len(rows) == 30
        if run["setting"].endswith("inf"):
            assert (rows["status"] == "completed").sum() == run["metrics"]["completed"]


def test_variants_serve_the_same_requests(twice: tuple[Path, Path]) -> None:
    runs = load(twice[0]).requests
    assert runs is not None
    keys = ["setting", "seed"]
    columns = ["id", "prompt_tokens", "output_tokens", "arrival_s"]
    by_variant = {
        name: rows.sort_values([*keys, "id"])[[*keys, *columns]].reset_index(drop=True)
        for name, rows in runs.groupby("variant")
    }
    pd.testing.assert_frame_equal(by_variant["gpu-only"], by_variant["apex"])


def test_document_names_where_its_values_came_from(twice: tuple[Path, Path]) -> None:
    document = json.loads((twice[0] / "result.json").read_text())
    origins = document["config"]["provenance"]
    assert origins["slo.ttft"] == "preset osc"
    assert origins["gpu"] == "--gpu"
    assert "--slo" not in document["command"]
    assert document["tool_version"] == apexbench.__version__


def test_saved_command_gives_the_same_document(twice: tuple[Path, Path], tmp_path: Path) -> None:
    document = json.loads((twice[0] / "result.json").read_text())
    done = compare(*document["command"].split()[2:], "--json", str(tmp_path / "again.json"))
    assert done.returncode == 0
    again = json.loads((tmp_path / "again.json").read_text())
    for part in ("command", "warnings", "settings", "runs", "comparisons"):
        assert again[part] == document[part], part


def test_json_on_stdout_is_only_json() -> None:
    done = compare(*SMALL[:-4], "--rate", "inf", "--policies", "gpu-only", "--json", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["kind"] == "compare"
    assert "next: apexbench" in done.stderr


# --- interrupts and deaths ------------------------------------------------------------------------


@dataclass
class Watched:
    """A comparison with its own session and a terminal for stderr, whose progress we read."""

    arguments: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    seen: str = ""

    def __enter__(self) -> "Watched":
        self._terminal, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, "compare", *self.arguments],
            stdout=subprocess.DEVNULL, stderr=terminal, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"} | self.environment,
        )  # fmt: skip
        os.close(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._terminal)

    def read_until(self, pattern: str) -> None:
        """Until the terminal has shown `pattern`."""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.seen):
            assert self._read(), f"ended without showing {pattern}: {self.seen[-500:]}"
            assert time.monotonic() < deadline, self.seen[-500:]

    def wait(self) -> int:
        """The exit code, once nothing of the session is left but zombies."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self.seen[-500:]}"
        code = self.process.wait(PATIENCE_S)
        while self.members():
            assert time.monotonic() < deadline, f"left behind: {self.members()}"
            time.sleep(0.05)
        return code

    def members(self) -> list[int]:
        """Living processes of the session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def workers(self) -> list[int]:
        """Members that run cells."""
        return [
            pid
            for pid in self.members()
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def sentences(self) -> list[str]:
        """What the command said on stderr, without its progress."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
        return re.findall(r"apexbench: [^\r\n]*", plain)

    def _read(self) -> bool:
        """False when every process has closed the terminal."""
        if not select.select([self._terminal], [], [], PATIENCE_S)[0]:
            pytest.fail(f"silent for {PATIENCE_S} s: {self.seen[-500:]}")
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)


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
    assert "Traceback" not in watched.seen
    assert watched.sentences()[-1] == (
        "apexbench: interrupted; the result holds the runs that had ended"
    )
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_partial"] is True
    assert 1 <= len(document["runs"]) < 24
    assert (tmp_path / "report.html").exists()


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


@pytest.mark.slow
def test_dying_worker_costs_no_finished_run(tmp_path: Path) -> None:
    with Watched([*LONG, "--rate", "1x,inf", "--jobs", "2", "--out", str(tmp_path)]) as watched:
        watched.read_until(r"runs [1-9]\d*/12")
        os.kill(watched.workers()[0], signal.SIGKILL)
        assert watched.wait() == 4
    assert "Traceback" not in watched.seen
    (sentence,) = watched.sentences()
    assert "a worker process ended unexpectedly (killed, or out of memory)" in sentence
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_partial"] is True
    assert 1 <= len(document["runs"]) < 12


def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    endless = (*LONG, "--requests", "200000", "--rate", "inf", "--out", str(tmp_path))
    with Watched([*endless, "--jobs", "2"]) as watched:
        watched.read_until(r"requests [1-9][\d,]*/")
        assert watched.workers()
        watched.process.kill()
        assert watched.wait() == -signal.SIGKILL


# --- progress -------------------------------------------------------------------------------------


def test_progress_moves_within_a_single_run_and_vanishes(tmp_path: Path) -> None:
    one = (*LONG, "--seeds", "1", "--rate", "inf", "--jobs", "1", "--out", str(tmp_path))
    with Watched(one) as watched:
        watched.read_until(r"runs 0/1, requests [1-9][\d,]*/3,000")
        assert watched.wait() == 0
    assert watched.sentences() == []


def test_no_color_is_respected() -> None:
    colors = re.compile(r"\x1b\[[0-9;]*[34][0-9]m|\x1b\[[0-9;]*38;")
    with Watched([*SMALL, "--json", "/dev/null", "--jobs", "1"]) as colored:
        assert colored.wait() == 0
    with Watched([*SMALL, "--json", "/dev/null", "--jobs", "1"], {"NO_COLOR": "1"}) as plain:
        assert plain.wait() == 0
    assert colors.search(colored.seen)
    assert "saturation" in plain.seen
    assert not colors.search(plain.seen)


def test_quiet_shows_no_progress_and_pipes_see_none(tmp_path: Path) -> None:
    with Watched([*SMALL, "--quiet", "--out", str(tmp_path)]) as watched:
        assert watched.wait() == 0
    assert watched.seen == ""
    done = compare(*SMALL, "--out", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout


def test_environment_holds_what_may_differ(twice: tuple[Path, Path]) -> None:
    document: dict[str, Any] = json.loads((twice[0] / "result.json").read_text())
    assert document["environment"]["created_at"] == "2023-11-14T22:13:20+00:00"
    assert document["environment"]["simulated_s"] > 0
