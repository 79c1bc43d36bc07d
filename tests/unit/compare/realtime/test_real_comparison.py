"""A comparison in real time as a document: what it notes, compares and leaves out."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from apexbench.compare import comparison as module
from apexbench.compare.advice import next_command
from apexbench.compare.comparison import Comparison
from apexbench.compare.machines import emulated
from apexbench.compare.realtime import opening
from apexbench.compare.realtime.runner import RealTimeRunner
from apexbench.result import Result
from tests.unit.compare.realtime.conftest import FakeBench, FakeWatch, config

BUSY = "other processes took 40% of the CPUs"

Compare = Callable[..., Comparison]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """`compare(reasons, bench, **config)`: a finished one; `reasons` of runs in turn, then None."""
    monkeypatch.setattr(emulated, "usable_cores", lambda: 8)

    def run(reasons: tuple[str, ...] = (), bench: FakeBench | None = None, **values: Any):
        left = iter(reasons)
        watched = partial(RealTimeRunner, watch=lambda: FakeWatch(next(left, None)))
        monkeypatch.setattr(module, "RealTimeRunner", watched)
        monkeypatch.setattr(opening, "bench_of", lambda *_: bench or FakeBench())
        found = Comparison.prepare(config(backend="emulated", jobs=None, **values))
        found.run(lambda _: lambda _: None)
        return found

    return run


def document(comparison: Comparison) -> Result:
    return comparison.document(wall_s=1)


def test_a_quiet_comparison_is_compared(compare: Compare) -> None:
    found = compare()
    result = document(found)
    assert found.is_trustworthy
    assert {run.backend for run in result.runs} == {"emulated"}
    assert [run.setting.rpartition("/")[2] for run in result.runs] == ["inf"] * 4
    assert result.comparisons
    assert result.environment.threads == {"cpu": 1}
    assert result.environment.cpu_kernels == "avx2 of avx2"
    assert "torch" in result.environment.packages
    assert result.environment.simulated_s == 0


def test_nothing_is_compared_where_one_run_is_not_trusted(compare: Compare) -> None:
    found = compare((BUSY,))
    result = document(found)
    assert not found.is_trustworthy
    assert len(result.runs) == 4
    assert result.comparisons == ()
    (warning,) = [text for text in result.warnings if "too busy" in text]
    assert "in 1 of 4 runs" in warning
    assert BUSY in warning
    assert next_command(result) == result.command


def test_rates_come_as_multiples_of_what_was_measured(compare: Compare) -> None:
    result = document(compare(rate="0.5x,inf", policies="gpu-only"))
    saturation, half = result.settings
    assert half.rate_label == "0.5x"
    rates = [r.metrics.request_throughput_rps for r in result.runs if r.setting == saturation.id]
    assert half.rate_rps == pytest.approx(0.5 * sum(rates) / len(rates))
    assert all(run.measured for run in result.runs)


def test_what_was_calibrated_stands_beside_the_profiles(compare: Compare) -> None:
    (setting,) = document(compare()).settings
    devices = {constant.device for constant in setting.constants}
    assert "this-machine" in devices
    assert len(devices) > 1


@pytest.mark.parametrize(("host", "is_said"), [(None, True), ("xeon-6130x2", False)])
def test_a_host_that_nobody_named_is_only_assumed(
    host: str | None, is_said: bool, compare: Compare
) -> None:
    warnings = document(compare(host=host)).warnings
    assert any("policies believe in the CPU of xeon-6130x2" in w for w in warnings) is is_said


@pytest.mark.parametrize(("tokens", "is_said"), [(12 * 128, False), (640, True)])
def test_a_small_host_pool_is_said(tokens: int, is_said: bool, compare: Compare) -> None:
    warnings = document(compare(cpu_kv_tokens=tokens)).warnings
    said = [w for w in warnings if "holds 640 KV tokens, about 5 of the 12 requests" in w]
    assert bool(said) is is_said


def test_equal_runs_make_equal_documents(compare: Compare) -> None:
    one, two = (document(compare()) for _ in range(2))
    assert one.runs == two.runs
    assert one.comparisons == two.comparisons
