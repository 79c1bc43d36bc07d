"""`apexbench profile` as typed: a profile that compare uses, and Ctrl-C; asserts no figure."""

import json
import os
import signal
from pathlib import Path

import pytest

from apexbench.cli.main import run
from apexbench.cpu_kernels.native import library
from apexbench.engine.hardware import load_host
from tests.e2e.watched import START, Watched

# Watched starts `compare`: here the same interpreter is told another command.
START_PROFILE = f"import sys; sys.argv[1] = 'profile'; {START}"

pytestmark = pytest.mark.skipif(library() is None, reason="the CPU kernels are not compiled here")


@pytest.mark.slow
def test_a_quick_profile_is_what_compare_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["profile", "--quick", "--json", "points.json"]) == 0
    output = capsys.readouterr()
    assert "Next: apexbench compare --host local.toml --gpu t4" in output.out
    assert output.err == ""  # no progress where nobody watches
    host = load_host("local.toml")
    assert host.attention is not None
    curves = {(c.dtype, c.gqa_group, c.threads): c for c in host.attention.curves}
    assert curves["fp16", 1, 1].gb_per_s.value > 0
    assert all(constant.sigma >= 0 for constant in host.constants())
    points = json.loads(Path("points.json").read_text())["measurements"]["attention"]
    assert all(point["seconds"] > 0 for point in points)

    small = ["--workload", "fixed:128/32", "--requests", "20", "--seeds", "1", "--jobs", "1"]
    what = ["--gpu", "t4", "--policies", "gpu-only,apex", "--rate", "inf", "--json", "result.json"]
    assert run(["compare", "--host", "local.toml", *small, *what]) == 0
    (setting,) = json.loads(Path("result.json").read_text())["settings"]
    assert (setting["host"], setting["cpu_kernel"]) == ("local", "measured")
    kinds = {constant["name"]: constant["kind"] for constant in setting["constants"]}
    assert (kinds["gb_per_s"], kinds["eager_layer_us"]) == ("measured", "inferred")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ("--quick", "--profile-out", str(tmp_path / "local.toml"))
    with Watched(arguments, start=START_PROFILE) as watched:
        watched.read_until("attention, fp16")
        os.kill(watched.process.pid, number)
        assert watched.wait() == 130
        assert watched.sentences() == ["apexbench: interrupted"]
        assert watched.is_clean()
    assert list(tmp_path.iterdir()) == []
