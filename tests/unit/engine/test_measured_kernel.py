"""A measured host in the cost model: its kernel is the default, and keeps the laws of costs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.constants import constants_of, with_constants
from apexbench.engine.deployment import Deployment, believed_on, deploy
from apexbench.engine.hardware import load_host
from apexbench.engine.predict.machine import RESOURCES, Machine, host_byte_counter, ideal
from apexbench.engine.predict.sensitivity import resource_shares
from apexbench.engine.uncertainty import drawn_constants, uncertain_constants
from apexbench.errors import UsageError
from apexbench.profiling.profile import profiled, to_toml
from tests.host_measurements import BYTES, cheap_when_long, measurements, point


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a measured host of two cores."""
    base = load_host("g6.4xlarge")
    host = profiled("mine", measurements(), base, created_at="2026-01-02", version="1")
    file: Path = tmp_path_factory.mktemp("profile") / "mine.toml"
    file.write_text(to_toml(host))
    return str(file)


@pytest.fixture(scope="module")
def deployed(path: str) -> Deployment:
    return deploy("t4", path)


def test_measured_is_the_default_where_the_host_has_it(path: str, deployed: Deployment) -> None:
    assert deployed.cpu_kernel.name == "measured"
    assert (deployed.host.name, deployed.cpu_threads) == ("mine", 1)
    assert deploy("t4").cpu_kernel.name == "paper"
    assert deploy("t4", path, cpu_kernel="apexbench").cpu_kernel.name == "apexbench"


def test_measured_asked_of_a_host_without_it_is_one_sentence(path: str) -> None:
    with pytest.raises(UsageError, match="host 'xeon-6130x2' has no measured CPU kernel; measure"):
        deploy("t4", cpu_kernel="measured")
    with pytest.raises(UsageError, match="not measured with bf16 KV"):
        deploy("a10", path, kv_dtype="bf16")


@pytest.mark.parametrize(("model", "heads"), [("llama-2-7b", 32), ("llama-3.1-8b", 8)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_the_cost_of_a_job_is_what_was_measured(
    path: str, model: str, heads: int, threads: int, dtype: str
) -> None:
    costs = deploy("t4", path, model, cpu_threads=threads, cpu_kv_dtype=dtype).costs()
    rate = 20.0 * (1 + 0.6 * (threads - 1))
    for rows, length in ((1, 16), (8, 60), (5, 3000), (2, 6000)):
        job = point((length,) * rows, dtype=dtype, kv_heads=heads, threads=threads, gb_per_s=rate,
                    factor=cheap_when_long)  # fmt: skip
        charged = (costs.cpu_attention_ns(rows, rows * length) + costs.cpu_dispatch_ns()) / 1e9
        from_python_s = 3e-6 if threads == 1 else 0.0  # nobody measured it with two
        lanes_s = measurements().lane_in_layer_s
        assert charged == pytest.approx(job.seconds + from_python_s + lanes_s, rel=0.02)


def test_a_row_costs_in_proportion_to_query_heads(path: str) -> None:
    small, large = (
        deploy("h100", path, model).cpu_kernel.row_us.value
        for model in ("llama-3.1-8b", "llama-3.1-70b")
    )
    assert large == pytest.approx(2 * small)


def test_row_time_is_of_one_core_whatever_the_threads(path: str) -> None:
    host = load_host(path)
    assert host.attention is not None
    measured_us = host.attention.curve("fp16", 1, 2).row_us.value
    two = deploy("t4", path, cpu_threads=2)
    assert two.cpu_kernel.row_us.value == pytest.approx(2 * measured_us)
    assert two.host_ops().row_s == pytest.approx(measured_us * 1e-6)


@given(rows=st.integers(1, 4000), kv=st.integers(1, 10**6), more=st.integers(1, 10_000))
def test_costs_are_monotone(path: str, deployed: Deployment, rows: int, kv: int, more: int) -> None:
    costs = deployed.costs()
    now = costs.cpu_attention_ns(rows, kv)
    assert 1 <= now <= costs.cpu_attention_ns(rows, kv + more) + 1
    assert now <= costs.cpu_attention_ns(rows + more, kv) + 1
    assert now <= costs.cpu_attention_ns(rows, kv, copy_bytes=more << 20)
    assert costs.cpu_attention_ns(0, 0, 1 << 20) == 0


def test_all_its_constants_reach_the_report_and_can_be_drawn(deployed: Deployment) -> None:
    names = {(c.device, c.name) for c in deployed.constants()}
    assert names >= {("measured", "gb_per_s"), ("measured", "row_us"), ("measured", "dispatch_us")}
    uncertain = uncertain_constants(deployed)
    assert "cpu_kernel.gb_per_s" in uncertain
    drawn = drawn_constants(deployed, np.random.default_rng(1))
    moved = with_constants(deployed, drawn)
    assert constants_of(moved)["cpu_kernel.gb_per_s"].value == drawn["cpu_kernel.gb_per_s"]
    name = "cpu_kernel.gb_per_s"
    faster = with_constants(deployed, {name: 1.2 * constants_of(deployed)[name].value})
    before, after = (d.costs().cpu_attention_ns(4, 4 * 16352) for d in (deployed, faster))
    assert after == pytest.approx(before / 1.2, rel=0.02)  # long rows: their bytes alone


def test_predictions_know_what_a_measured_kernel_rests_on(deployed: Deployment) -> None:
    machine = Machine(deployed)
    assert "cpu_kernel.gb_per_s" in RESOURCES["cpu_attention"][0]
    job = resource_shares(machine, lambda m: m.costs().cpu_attention_ns(3, 3000) / 1e9)
    assert sum(job.values()) == pytest.approx(1, abs=0.01)
    assert job["cpu_attention"] == pytest.approx(1, abs=0.01)
    bytes_of_job = host_byte_counter(machine).attention(3, 900, 0)
    assert bytes_of_job == 900 * BYTES["fp16", 32]
    assert ideal(machine).host_ops().attention(3, 900, 0) < machine.host_ops().attention(3, 900, 0)


def test_a_stated_rate_takes_the_place_of_the_curve(deployed: Deployment) -> None:
    machine = Machine(deployed, 100e9)
    ops = machine.host_ops()
    expected = 3 * ops.row_s + 900 * BYTES["fp16", 32] / 100e9
    assert ops.attention(3, 900, 0) == pytest.approx(expected)


def test_a_kernel_is_not_asked_about_other_threads(deployed: Deployment) -> None:
    with pytest.raises(UsageError, match="is for 1 threads, not 2; deploy it again"):
        deployed.cpu_kernel.bytes_per_s(deployed.host, 2, is_gqa=False, dtype="fp16")


def test_another_host_is_not_believed_to_have_this_ones_kernel(
    path: str, deployed: Deployment
) -> None:
    elsewhere = believed_on(deployed, "g4dn.4xlarge")
    assert (elsewhere.host.name, elsewhere.cpu_kernel.name) == ("g4dn.4xlarge", "apexbench")
    assert elsewhere.cpu_threads == 7
    here = believed_on(deploy("t4"), path)
    assert (here.host.name, here.cpu_kernel.name) == ("mine", "paper")
    assert believed_on(deployed, path).cpu_kernel == deployed.cpu_kernel
