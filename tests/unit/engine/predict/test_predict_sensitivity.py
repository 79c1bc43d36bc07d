"""Uncertainty and shares of durations whose dependence on constants is known."""

import math

import pytest

from apexbench.engine.deployment import deploy
from apexbench.engine.predict.machine import OVERHEADS, Machine, faster, ideal, moved, scaled
from apexbench.engine.predict.sensitivity import provenances, resource_shares

T4 = Machine(deploy())


def value(machine: Machine, name: str) -> float:
    return machine.constants()[name].value


def test_sigma_is_the_root_of_squares_of_sigma_times_elasticity() -> None:
    def product(machine: Machine) -> dict[str, float]:
        rate = value(machine, "gpu.gemm_compute_efficiency")
        return {"x": value(machine, "host.eager_row_us") / math.sqrt(rate)}

    found = provenances(T4, product)["x"]
    row, share = (T4.constants()[n] for n in ("host.eager_row_us", "gpu.gemm_compute_efficiency"))
    assert found.sigma == pytest.approx(math.hypot(row.sigma, share.sigma / 2), rel=1e-3)
    assert found.kind == "inferred"
    assert found.worst == ("xeon-6130x2.eager_row_us",)
    slopes = {r.constant: r.elasticity for r in found.rests_on}
    assert slopes == {
        "xeon-6130x2.eager_row_us": pytest.approx(1, abs=1e-3),
        "t4.gemm_compute_efficiency": pytest.approx(-0.5, abs=1e-3),
    }


def test_what_rests_on_nothing_has_no_provenance() -> None:
    found = provenances(T4, lambda _: {"constant": 3.0, "nothing": 0.0})
    assert {p.kind for p in found.values()} == {None}
    assert {p.sigma for p in found.values()} == {0.0}


def test_resource_shares_are_parts_of_the_duration() -> None:
    def duration(machine: Machine) -> float:
        memory = 1 / value(machine, "gpu.dram_gb_per_s")
        return memory + 3 * value(machine, "gpu.pcie_latency_us") / 12 / 320

    shares = resource_shares(T4, duration)
    assert shares["gpu_bandwidth"] == pytest.approx(0.25, abs=1e-3)
    assert shares["pcie"] == pytest.approx(0.75, abs=1e-3)
    assert shares["gpu_compute"] == 0


def test_a_stated_rate_of_cpu_attention_is_what_it_takes() -> None:
    stated = Machine(T4.deployment, 500e9)  # more than the host's memory is said to give
    num_bytes = 1000 * stated.deployment.model.kv_bytes_per_token_layer("fp16")
    assert stated.host_ops().attention(1, 1000, 0) == pytest.approx(num_bytes / 500e9)
    twice = faster(stated, "cpu_attention", 2)
    assert twice.host_ops().attention(1, 1000, 0) == pytest.approx(num_bytes / 1000e9)
    assert faster(T4, "cpu_attention", 2).cpu_bytes_per_s is None


def test_moving_leaves_the_rest_alone() -> None:
    before = T4.constants()
    changed = scaled(T4, {"gpu.kernel_latency_us": 2, "host.price_usd_per_hour": 3}).constants()
    assert changed.pop("gpu.kernel_latency_us").value == 2 * before["gpu.kernel_latency_us"].value
    assert changed == {k: v for k, v in before.items() if k != "gpu.kernel_latency_us"}
    assert moved(T4, {}) == T4


def test_an_ideal_machine_has_no_overheads() -> None:
    constants = ideal(T4).constants()
    assert {constants[name].value for name in OVERHEADS} == {0.0}
