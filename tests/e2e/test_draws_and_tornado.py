"""`compare --draws` and `--tornado` as typed: equal bytes, belief variants, wrong input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

START = "from apexbench.cli.main import main; main()"
BELIEVER = "apex+belief=xeon-6342x2"
SMALL = ("--gpu", "t4", "--workload", "osc", "--requests", "30", "--seeds", "2", "--rate", "inf",
         "--policies", f"gpu-only,apex,{BELIEVER}", "--draws", "3", "--tornado")  # fmt: skip
FIXED_DATE = {"SOURCE_DATE_EPOCH": "1700000000"}


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`apexbench compare ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", START, "compare", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | FIXED_DATE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same draws and tornado in one process and in two."""
    folder = tmp_path_factory.mktemp("draws")
    for jobs in ("1", "2"):
        done = compare(*SMALL, "--jobs", jobs, "--out", str(folder / jobs))
        assert (done.returncode, done.stderr) == (0, "")
    return folder / "1", folder / "2"


def test_processes_change_nothing(outs: tuple[Path, Path]) -> None:
    documents = [json.loads((out / "result.json").read_text()) for out in outs]
    for document in documents:
        document.pop("environment")
    assert documents[0] == documents[1]
    for name in ("report.html", "summary.md"):
        one, two = ((out / name).read_bytes() for out in outs)
        assert one == two


def test_another_hosts_profile_is_a_variant_with_its_name(outs: tuple[Path, Path]) -> None:
    document = json.loads((outs[0] / "result.json").read_text())
    runs = {run["variant"]: run for run in document["runs"] if run["seed"] == 0}
    assert set(runs) == {"gpu-only", "apex", BELIEVER}
    for name in ("apex", BELIEVER):
        assert runs[name]["draws"]["n"] == 3
        assert len(runs[name]["draws"]["ratios"]) == 3
    summary = (outs[0] / "summary.md").read_text().replace("\\", "")
    assert f"| {BELIEVER} |" in summary
    assert f"except that {BELIEVER} believe another host's" in summary
    assert BELIEVER in (outs[0] / "report.html").read_text()


def test_summary_names_the_draws(outs: tuple[Path, Path]) -> None:
    summary = (outs[0] / "summary.md").read_text()
    assert "of 3 draws of the device constants (median ratio" in summary
    assert "3 draws support no 80 % band: it is rough below" in summary


def test_the_command_in_the_document_asks_for_them(outs: tuple[Path, Path]) -> None:
    document = json.loads((outs[0] / "result.json").read_text())
    assert "--draws 3 --tornado" in document["command"]
    constants = {bar["constant"] for bar in document["sensitivities"]}
    assert "paper_kernel_gb_per_s" in constants
    assert {bar["candidate"] for bar in document["sensitivities"]} <= {"apex", BELIEVER}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--draws", "-1"), "--draws must be a whole number of at least 0"),
        (("--draws", "x"), "--draws must be a whole number of at least 0"),
        (("--draws", "1.5"), "--draws must be a whole number of at least 0"),
        (("--draws", "2", "--rate", "0.8x"), "--draws needs the saturation run: add inf to --rate"),
        (("--tornado", "--rate", "2"), "--tornado needs the saturation run: add inf to --rate"),
        (("--tornado", "--policies", "gpu-only"), "--tornado needs a hybrid"),
        (("--policies", "apex+belief=xeon-6342"), "unknown host 'xeon-6342'"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = compare("--gpu", "t4", "--out", str(tmp_path), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("apexbench: ")
    assert sentence in line
