"""What a user can get wrong with `compare`: one sentence, the right exit code, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

START = "from apexbench.cli.main import main; main()"
QUICK = ("--gpu", "t4", "--workload", "osc", "--requests", "20", "--seeds", "1", "--rate", "inf",
         "--policies", "gpu-only", "--jobs", "1")  # fmt: skip
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def compare(*arguments: str, limit: str = "") -> subprocess.CompletedProcess[str]:
    """`apexbench compare ARGUMENTS` in a process of its own; `limit` is shell code before it."""
    shell = ["sh", "-c", f'{limit} exec "$@"', "sh"] if limit else []
    command = [*shell, sys.executable, "-c", START, "compare", *QUICK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one sentence on stderr."""
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("apexbench: ")
    assert "bug" not in sentence
    return sentence.removeprefix("apexbench: ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--gpu t5", "unknown gpu 't5'; did you mean t4?"),
        ("--host xeon-6130x3", "unknown host 'xeon-6130x3'; did you mean xeon-6130x2"),
        ("--model llama-2-7", "unknown model 'llama-2-7'; did you mean llama-2-7b"),
        ("--policies neoo", "unknown policy 'neoo'; did you mean neo?"),
        ("--policies gpu-only+int5", "unknown weight dtype 'int5'; did you mean int8 or int4?"),
        ("--workload oscc", "unknown workload 'oscc'; did you mean osc?"),
        ("--set max_batched_token=5", "did you mean max_batched_tokens?"),
        ("--slo tftt=2", "unknown slo target 'tftt'; did you mean ttft or tpot?"),
        ("--weights int3", "--weights must be fp16, int8 or int4, or for a real model"),
        ("--rate nan", "--rate must be positive requests per second"),
        ("--rate -1", "--rate must be positive requests per second"),
        ("--rate 0", "--rate must be positive requests per second"),
        ("--rate 0x", "--rate must be positive requests per second"),
        ("--requests 0", "--requests must be a whole number of at least 1, got '0'"),
        ("--cpu-threads 9999", "9999 CPU threads on"),
        ("--nope", "No such option: --nope"),
    ],
)
def test_what_does_not_exist_is_exit_2(arguments: str, sentence: str, tmp_path: Path) -> None:
    done = compare("--out", str(tmp_path / "out"), *arguments.split())
    assert sentence in complaint(done, 2)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HEADER}2023-11-16 18:15:46.6805900,10,5\n2023-11-16 18:15:47.0,abc,5\n", "row 3 of"),
        ("", "is empty"),
        (HEADER, "holds no requests"),
    ],
    ids=["malformed", "empty", "header only"],
)
def test_unusable_trace_is_exit_3(text: str, sentence: str, tmp_path: Path) -> None:
    trace = tmp_path / "traffic.csv"
    trace.write_text(text, encoding="utf-8")
    done = compare("--out", str(tmp_path / "out"), "--workload", f"trace:{trace}")
    assert sentence in complaint(done, 3)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--workload trace:/no/such.csv", "cannot read trace file '/no/such.csv'"),
        ("--max-context 8", "every request drawn from 'osc' exceeds the max context of 8 tokens"),
        ("--workload fixed:900/100 --gpu-kv-tokens 320", "320"),
        ("--model llama-2-13b", "llama-2-13b in fp16 needs"),
        ("--config /no/such.toml", "cannot read config file '/no/such.toml'"),
    ],
)
def test_what_cannot_be_used_is_exit_3(arguments: str, sentence: str, tmp_path: Path) -> None:
    done = compare("--out", str(tmp_path / "out"), *arguments.split())
    assert sentence in complaint(done, 3)


@pytest.mark.parametrize("flag", ["--out", "--json", "--html"])
def test_file_in_the_way_is_said_before_anything_runs(flag: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    place = "file" if flag == "--out" else "file/result"
    done = compare(flag, str(tmp_path / place))
    assert "a file is in the way" in complaint(done, 3)
    assert done.stdout == ""
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="UNPROVEN: root may write anywhere; run as a user")
def test_read_only_directory_is_said_before_anything_runs(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in complaint(compare("--out", str(tmp_path / "out")), 3)


def test_full_device_costs_that_file_alone(tmp_path: Path) -> None:
    """The verdict is still printed, the directory is still written, the device is still one."""
    done = compare("--out", str(tmp_path), "--json", "/dev/full")
    assert complaint(done, 3) == "cannot write '/dev/full': No space left on device"
    assert "next: apexbench" in done.stdout
    assert (tmp_path / "report.html").exists()
    assert Path("/dev/full").is_char_device()


def test_full_disk_leaves_no_half_files(tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: the small files fit, the report does not."""
    done = compare("--out", str(tmp_path), limit="ulimit -f 2000;")
    assert "cannot write" in complaint(done, 3)
    assert "next: apexbench" in done.stdout
    json.loads((tmp_path / "result.json").read_text())
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not (tmp_path / "report.html").exists()


def test_device_can_be_written_to(tmp_path: Path) -> None:
    done = compare("--json", "/dev/null", "--html", str(tmp_path / "r.html"))
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("/dev/null").is_char_device()
    assert (tmp_path / "r.html").exists()


def test_one_request_and_one_seed_claim_nothing(tmp_path: Path) -> None:
    done = compare(
        "--out", str(tmp_path), "--requests", "1", "--policies", "gpu-only,apex",
        "--rate", "0.8x,inf",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads((tmp_path / "result.json").read_text())
    assert document["comparisons"]
    for comparison in document["comparisons"]:
        assert (comparison["n"], comparison["ci_low"]) == (1, None)
        assert comparison["verdict"] == "no_significant_difference"


def test_result_without_a_success_still_renders(tmp_path: Path) -> None:
    assert compare("--json", str(tmp_path / "r.json"), "--policies", "apex").returncode == 0
    document = json.loads((tmp_path / "r.json").read_text())
    nothing = {"mean": None, "p50": None, "p90": None, "p99": None, "n": 0}
    for run in document["runs"]:
        for name, value in run["metrics"].items():
            run["metrics"][name] = nothing if isinstance(value, dict) else 0
        run |= {"latency_by_tier": {"gpu": None, "cpu": None}, "latency_cdf": {}}
        run |= {"series": None, "timeline": None, "failures": {"longer than the cache": 20}}
    (tmp_path / "r.json").write_text(json.dumps(document | {"comparisons": []}))
    code = [sys.executable, "-c", START, "report", str(tmp_path / "r.json")]
    done = subprocess.run(
        [*code, "--html", str(tmp_path / "r.html")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "No request completed" in (tmp_path / "r.html").read_text()
