"""`apexbench paper` from the outside: equal bytes, one sentence per error, nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

START = "from apexbench.cli.main import main; main()"
CONFIG = """
title = "t"
[papers]
apex = "a"
[marks]
[frozen]
[defaults]
policies = ["apex"]
requests = 30
[[runs]]
id = "one"
gpu = "l4"
host = "g6.4xlarge"
model = "llama-3.1-8b"
workload = "fixed:100/20"
draws = 2
[[claims]]
id = "gain"
paper = "apex"
text = "a gain"
mark = "P"
value = "+1 %"
low = 1
high = 2
unit = "%"
gpu = "l4"
workload = "any"
test = "gain"
candidate = "apex"
baseline = "gpu-only"
runs = ["one"]
read = "as it stands"
"""
PATIENCE_S = 60  # for a hung process only


def paper(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, "paper", *arguments],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    (tmp_path / "paper.toml").write_text(CONFIG)
    return tmp_path


def test_the_page_does_not_depend_on_the_jobs(place: Path) -> None:
    pages = []
    for jobs in ("1", "2"):
        done = paper(place, "--config", "paper.toml", "--out", "page.md", "--jobs", jobs)
        assert (done.returncode, done.stdout, done.stderr) == (0, "wrote page.md\n", "")
        pages.append((place / "page.md").read_bytes())
    assert pages[0] == pages[1]
    assert pages[0].startswith(b"# t\n")


@pytest.mark.parametrize(
    ("old", "new", "code", "sentence"),
    [
        ("low = 1", "low = ", 3, "is not valid TOML"),
        ("low = 1", "lower = 1", 3, "claims.0.lower: Extra inputs are not permitted"),
        ('policies = ["apex"]', 'policies = ["apexx"]', 3, "does not run policy 'apex'"),
        ('["apex"]', '["apex", "neeo"]', 2, "unknown policy 'neeo'; did you mean neo?"),
        ('"fixed:100/20"', '"oscc"', 2, "unknown workload 'oscc'; did you mean osc?"),
        ('"l4"\nhost', '"mygpu.toml"\nhost', 3, "mygpu.toml"),
    ],
)
def test_bad_configs_are_one_sentence(
    place: Path, old: str, new: str, code: int, sentence: str
) -> None:
    (place / "paper.toml").write_text(CONFIG.replace(old, new, 1))
    done = paper(place, "--config", "paper.toml", "--out", "page.md")
    assert done.returncode == code
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in place.iterdir()) == ["paper.toml"]


def test_missing_files_and_options(place: Path) -> None:
    done = paper(place, "--config", "none.toml", "--out", "page.md")
    assert done.returncode == 3
    assert "cannot read paper config 'none.toml': No such file or directory" in done.stderr
    done = paper(place, "--config", "paper.toml", "--out", ".")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert paper(place, "--config", "paper.toml").returncode == 2
    done = paper(place, "--config", "paper.toml", "--out", "page.md", "--jobs", "none")
    assert done.returncode == 2
    assert "--jobs must be a whole number" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_old_page(place: Path, number: signal.Signals) -> None:
    long = CONFIG.replace("requests = 30", "requests = 4000").replace("draws = 2", "draws = 500")
    (place / "paper.toml").write_text(long)
    (place / "page.md").write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", START, "paper", "--config", "paper.toml", "--out", "page.md",
         "--jobs", "2"],
        cwd=place, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while not _has_workers(process.pid) and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert errors == "apexbench: interrupted; page.md is as it was\n"
    assert (place / "page.md").read_text() == "old"
    assert sorted(path.name for path in place.iterdir()) == ["page.md", "paper.toml"]


def _has_workers(pid: int) -> bool:
    """Whether the process has begun to run cells in others."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
