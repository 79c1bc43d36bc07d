"""`compare --backend emulated|cpu` and `generate` as typed, on small things; times nothing."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apexbench.engine.executors.cpu_kernels_state import cpu_kernels_state
from apexbench.result import load
from tests.e2e.watched import PATIENCE_S, START, Watched
from tests.speaking_model import write_speaking_model

COMPILED = pytest.mark.skipif(
    not cpu_kernels_state().is_compiled, reason="UNPROVEN: needs the compiled CPU kernels"
)
FILES = {"result.json", "requests.parquet", "summary.md", "trace.json", "report.html"}
SMALL = ("--requests", "6", "--seeds", "2", "--cpu-threads", "1")
# A model of a few megabytes on the fastest GPU: steps of milliseconds.
EMULATED = ("--backend", "emulated", "--gpu", "h200", "--host", "xeon-6130x2",
            "--workload", "fixed:64/16", "--gpu-kv-tokens", "256", "--cpu-kv-tokens", "1024",
            "--policies", "gpu-only,static:deferred", *SMALL)  # fmt: skip
DONE, BUSY, INTERRUPTED = 0, 4, 130


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_model(tmp_path_factory.mktemp("model"))


def apexbench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *arguments],
        capture_output=True, text=True, check=False, timeout=10 * PATIENCE_S,
    )  # fmt: skip


def checked(done: subprocess.CompletedProcess[str], out: Path) -> dict[str, Any]:
    """The document; the exit code says whether the machine was quiet, as the document does."""
    document: dict[str, Any] = json.loads((out / "result.json").read_text())
    is_trusted = all(run["measured"]["is_trustworthy"] for run in document["runs"])
    assert done.returncode == (DONE if is_trusted else BUSY), done.stderr
    assert bool(document["comparisons"]) is is_trusted
    assert ("the machine was too busy" in done.stderr) is not is_trusted
    assert ("NOT FOR PUBLICATION" in done.stdout) is not is_trusted
    assert {path.name for path in out.iterdir()} == FILES
    return document


@COMPILED
def test_emulated_runs_are_measured_beside_a_modelled_gpu(model: Path, tmp_path: Path) -> None:
    done = apexbench(
        "compare", *EMULATED, "--model", str(model / "config.json"), "--out", str(tmp_path)
    )
    document = checked(done, tmp_path)
    assert len(document["runs"]) == 4
    for run in document["runs"]:
        assert run["backend"] == "emulated"
        assert run["metrics"]["completed"] == 6
        assert run["measured"]["lateness_s"]["n"] > 0
        assert run["measured"]["lane_prediction_error"]["step"] >= 0
    hybrid = next(run for run in document["runs"] if run["variant"] == "static:deferred")
    assert hybrid["measured"]["lane_measured_s"]["cpu"] > 0
    lanes = {span["lane"] for span in hybrid["timeline"]["spans"]}
    assert {"gpu", "cpu"} <= lanes
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert {event["cat"] for event in trace["traceEvents"] if "cat" in event} >= {"gpu", "cpu"}
    page = (tmp_path / "report.html").read_text()
    assert "not the model of the GPU" in page
    assert "Predicted and measured" in page


@COMPILED
def test_the_real_model_runs_under_every_policy(model: Path, tmp_path: Path) -> None:
    done = apexbench(
        "compare", "--backend", "cpu", "--model", str(model), "--workload", "fixed:48/16",
        "--gpu-kv-tokens", "128", *SMALL, "--seeds", "1",
        "--policies", "gpu-only+gpu_threads=1,static:deferred,apex,planner", "--out", str(tmp_path),
    )  # fmt: skip
    document = checked(done, tmp_path)
    assert {run["variant"] for run in document["runs"]} == {
        "gpu-only", "gpu-only+gpu_threads=1", "static:deferred", "apex", "planner",
    }  # fmt: skip
    for run in document["runs"]:
        assert run["backend"] == "cpu"
        assert run["metrics"]["completed"] == 6
        assert run["measured"]["gpu_threads"] == 1
    assert {constant["kind"] for constant in document["settings"][0]["constants"]} == {"measured"}
    assert document["environment"]["threads"] == {"gpu": 1, "cpu": 1}
    assert document["environment"]["cpu_kernels"]
    assert "ratios between policies do not transfer" in " ".join(done.stdout.split())
    assert set(load(tmp_path).runs["backend"]) == {"cpu"}


@COMPILED
def test_an_interrupt_ends_the_run_at_hand_and_writes_the_others(
    model: Path, tmp_path: Path
) -> None:
    long = [*EMULATED, "--model", "llama-2-7b", "--seeds", "9", "--out", str(tmp_path)]
    with Watched(long) as watched:
        watched.read_until(r"saturation.*runs 1/18.*tokens/s")
        os.kill(watched.process.pid, signal.SIGINT)
        assert watched.wait() == INTERRUPTED
    assert watched.is_clean()
    assert "apexbench: interrupted; the result holds the runs that had ended" in watched.sentences()
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["is_interrupted"] is True
    assert 1 <= len(document["runs"]) < 18


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--backend cuda", "--backend cuda comes with the CUDA executor"),
        ("--backend cpu --gpu t4 --model llama-2-7b --weights dummy --gpu-kv-tokens 64",
         "--gpu describes a modelled machine"),
        ("--backend emulated --jobs 2", "--jobs 2: runs at once would disturb each other"),
        ("--backend emulated --draws 8", "--draws repeats simulated runs"),
        ("--backend emulated --weights dummy", "--weights dummy is for a real model"),
        ("--gpu t4 --gpu-threads 1", "--gpu-threads is for --backend cpu"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_sentence(
    arguments: str, sentence: str, tmp_path: Path
) -> None:
    done = apexbench("compare", *arguments.split(), "--out", str(tmp_path))
    assert done.returncode == 2
    (complaint,) = done.stderr.splitlines()
    assert sentence in complaint
    assert not list(tmp_path.iterdir())


def test_generate_prints_what_there_is_when_interrupted(model: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(model), "--prompt", "hello", "--ignore-eos",
                 "--max-new-tokens", "500", "--json", str(tmp_path / "a.json")]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", START, "generate", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    first = process.stdout.read(1)  # the first token is there
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=PATIENCE_S)
    document = json.loads((tmp_path / "a.json").read_text())
    (answer,) = document["answers"]
    assert (first + rest).decode(errors="replace").rstrip("\n") == answer["text"].rstrip("\n")
    if process.returncode != DONE:  # it may have been faster than the signal
        assert process.returncode == INTERRUPTED
        assert b"apexbench: interrupted; this is what there was" in errors
        assert answer["finish_reason"] == "interrupted"
        assert 1 <= len(answer["token_ids"]) < 500
    assert not re.search(b"Traceback|Error", errors)


def test_generate_ends_quietly_when_nobody_reads_on(model: Path) -> None:
    command = (
        f'{sys.executable} -c "{START}" generate --model {model} --prompt a --prompt b'
        " --max-new-tokens 200 --ignore-eos --quiet | head -n 1"
    )
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "--- 1/2\n"
    assert done.stderr == ""
