"""`compare --sweep` as typed: what it writes, and what it says to wrong ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

START = "from apexbench.cli.main import main; main()"
QUICK = ("--gpu", "t4", "--workload", "osc", "--requests", "40", "--seeds", "1", "--rate", "inf",
         "--policies", "static:two_batch", "--jobs", "1")  # fmt: skip


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", START, "compare", *QUICK, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("sweep", "code", "sentence"),
    [
        ("gpu_kv_token=1,2", 2, "unknown sweep key 'gpu_kv_token'; did you mean gpu_kv_tokens"),
        ("gpu_kv_tokens=", 2, "sweep of gpu_kv_tokens has no values"),
        ("gpu_kv_tokens=864,x", 2, "value 'x' in the sweep of gpu_kv_tokens is not a positive"),
        ("gpu_kv_tokens=2000,2000", 2, "has the value 2000 twice"),
        ("cpu_threads=1/output_scale=1/gpu_kv_tokens=864", 2, "crosses 3 parameters"),
        ("gpu_kv_tokens=2000,8", 2, "gpu_kv_tokens=8: --gpu-kv-tokens is 8"),
        ("gpu_kv_tokens=2000,32", 3, "gpu_kv_tokens=32: every request of 'osc' is longer than"),
        ("cpu_threads=31,33", 2, "cpu_threads=33: 33 CPU threads on xeon-6130x2"),
    ],
)
def test_wrong_sweeps_end_before_anything_runs(
    sweep: str, code: int, sentence: str, tmp_path: Path
) -> None:
    done = compare("--sweep", sweep, "--out", str(tmp_path / "out"))
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    [complaint] = done.stderr.splitlines()
    assert sentence in complaint
    assert not list((tmp_path / "out").glob("*"))


def test_a_sweep_is_written_and_its_command_repeats_it(tmp_path: Path) -> None:
    sweep = "gpu_kv_tokens=1008,2000"
    done = compare("--sweep", sweep, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    [found] = result["sweeps"]
    assert [(p["values"], p["variant"]) for p in found["points"]] == [
        ([1008.0], "gpu-only"), ([1008.0], "static:two_batch"),
        ([2000.0], "gpu-only"), ([2000.0], "static:two_batch"),
    ]  # fmt: skip
    assert f"--sweep {sweep}" in result["command"]
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="sweeps-0-0-gain"' in report
