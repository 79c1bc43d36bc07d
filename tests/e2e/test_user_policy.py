"""Policies of users as typed: found by import path, run in any process, told what they broke."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apexbench.engine.policies.laws import Law
from apexbench.engine.policies.registry import find_policy, list_policies

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "docs" / "examples"
EXAMPLE = "my_policy:InLayerFirst"
START = "from apexbench.cli.main import main; main()"
QUICK = ("compare", "--gpu", "t4", "--workload", "osc", "--requests", "40", "--seeds", "1",
         "--rate", "inf", "--json", "-", "--quiet")  # fmt: skip
BROKEN = """
from apexbench.engine.policies.base import JOIN_ALL, Choice

class Broken:
    name = "broken"
    uses_cpu = True
    def __init__(self, context): pass
    def choose(self, work):
        if not work.cpu_rows:
            return JOIN_ALL
        row = work.cpu_rows[0].id
        return Choice(in_layer_a=(row,), in_layer_b=(row,))

class Crashing(Broken):
    name = "crashing"
    def choose(self, work):
        return self.nothing
"""


def apexbench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which leaves no compiled files in `cwd`."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", START, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bad.py").write_text(BROKEN, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_the_example_runs_in_one_process_and_in_two_alike() -> None:
    runs = []
    for jobs in ("1", "2"):
        done = apexbench(*QUICK, "--policies", EXAMPLE, "--jobs", jobs, cwd=EXAMPLES)
        assert done.returncode == 0, done.stderr
        runs.append(document(done))
    first, second = ({k: v for k, v in run.items() if k != "environment"} for run in runs)
    assert first["runs"] == second["runs"]
    assert [run["variant"] for run in first["runs"]] == ["gpu-only", EXAMPLE]
    assert EXAMPLE in first["command"]
    (variant,) = [each for each in first["variants"] if each["id"] == EXAMPLE]
    assert variant["policy"] == EXAMPLE
    assert len(variant["overrides"]["source_sha256"]) == 64


def test_a_threshold_of_its_own_makes_a_variant() -> None:
    name = f"{EXAMPLE}+max_deferred_cohorts=2"
    done = apexbench(*QUICK, "--policies", name, "--jobs", "1", cwd=EXAMPLES)
    assert done.returncode == 0, done.stderr
    assert document(done)["runs"][1]["variant"] == name


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_illegal_plan_is_one_sentence_and_other_runs_survive(jobs: str, folder: Path) -> None:
    done = apexbench(*QUICK, "--policies", "bad:Broken", "--jobs", jobs, cwd=folder)
    assert done.returncode == 4
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("apexbench: ")]
    assert "bad:Broken with seed 0 failed: policy 'broken' broke a law in step " in sentence
    assert f": {Law.ONE_PLACE}; it placed sequence " in sentence
    assert "Traceback" not in done.stderr
    assert "bug" not in sentence
    found = document(done)
    assert [run["variant"] for run in found["runs"]] == ["gpu-only"]
    assert found["is_partial"]


def test_what_a_policy_raises_is_one_sentence_with_its_place(folder: Path) -> None:
    done = apexbench(*QUICK, "--policies", "bad:Crashing", "--jobs", "1", cwd=folder)
    assert done.returncode == 4
    assert "it raised AttributeError: 'Crashing' object has no attribute 'nothing'" in done.stderr
    assert "(bad.py, line 17)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("no_such:Mine", 2, "no module 'no_such' for policy 'no_such:Mine'; searched "),
        ("bad:Brokn", 2, "unknown class 'Brokn'; did you mean Broken?"),
        ("bad:JOIN_ALL", 3, "'bad:JOIN_ALL' is no class but a Choice"),
        ("worse:Mine", 3, "cannot be imported: ZeroDivisionError: division by zero (worse.py,"),
    ],
)
@pytest.mark.parametrize("command", ["compare", "doctor"])
def test_what_cannot_be_used_is_one_sentence(
    command: str, name: str, code: int, said: str, folder: Path
) -> None:
    (folder / "worse.py").write_text("1 / 0", encoding="utf-8")
    arguments = (
        (*QUICK, "--policies", name) if command == "compare" else (command, "--policy", name)
    )
    done = apexbench(*arguments, cwd=folder)
    assert done.returncode == code
    (sentence,) = done.stderr.splitlines()
    assert said in sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("nope=1", "unknown threshold 'nope'"),
        ("two_batch_bias=1", "does not listen to threshold two_batch_bias"),
    ],
)
def test_a_change_it_does_not_listen_to_is_refused(change: str, said: str, folder: Path) -> None:
    done = apexbench(*QUICK, "--policies", f"bad:Broken+{change}", cwd=folder)
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert said in sentence


# -- doctor ----------------------------------------------------------------------------------------


def test_doctor_names_the_broken_law_and_the_seed_that_repeats_it(folder: Path) -> None:
    done = apexbench("doctor", "--policy", "bad:Broken", cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith("FAIL: policy 'bad:Broken' broke a law in step ")
    assert Law.ONE_PLACE in verdict
    _, again = verdict.split("; to see it again: apexbench ")
    repeated = apexbench(*again.split(), cwd=folder)
    assert repeated.returncode == 1
    assert repeated.stdout == done.stdout


def test_doctor_gives_its_findings_as_json(folder: Path) -> None:
    done = apexbench("doctor", "--policy", "bad:Crashing", "--json", cwd=folder)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["policy"], found["kept"], found["broken"]["seed"]) == ("bad:Crashing", [], 0)


def test_doctor_takes_a_seed_with_a_policy_only(folder: Path) -> None:
    done = apexbench("doctor", "--policy", "neo", "--seed", "7", cwd=folder)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "PASS: neo keeps all 5 laws (seed 7 each)"
    done = apexbench("doctor", "--seed", "7", cwd=folder)
    assert done.returncode == 2
    assert done.stderr.startswith("apexbench: --seed goes with --policy")


# -- the page --------------------------------------------------------------------------------------


@pytest.fixture
def page() -> str:
    return (REPOSITORY / "docs" / "policies.md").read_text(encoding="utf-8")


def test_the_page_shows_the_example_as_it_is(page: str) -> None:
    text = (EXAMPLES / "my_policy.py").read_text(encoding="utf-8")
    assert f"```python\n{text.rstrip()}\n```" in page


@pytest.mark.slow
def test_the_page_shows_what_doctor_prints(page: str) -> None:
    assert f"    apexbench doctor --policy {EXAMPLE}\n" in page
    done = apexbench("doctor", "--policy", EXAMPLE, cwd=EXAMPLES)
    assert done.returncode == 0, done.stdout
    assert f"```\n{done.stdout}```" in page


def test_the_page_describes_every_policy_threshold_and_law(page: str) -> None:
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n### ")[1:]}
    general = set(find_policy("gpu-only").thresholds)
    deferring = set(find_policy("static:deferred").thresholds)
    for entry in list_policies():
        section = sections[entry.name]
        assert "Bad at: " in section
        wanted = set(entry.thresholds) - (general if entry.name != "gpu-only" else set())
        if "those of static:deferred" in section:
            wanted -= deferring
        assert not [name for name in wanted if f"`{name}`" not in section]
    for law in Law:
        assert f"- {law}\n" in page
