"""`apexbench compare` from the outside: equal bytes, frames, progress."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import apexbench
from apexbench.result import load
from tests.e2e.watched import LONG, SMALL, START, Watched

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
