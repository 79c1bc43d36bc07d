"""Roofs and what binds each op, against the profiles and the cost code."""

import pytest

from apexbench.engine.deployment import deploy
from apexbench.engine.predict.layer import OpPrediction, predict
from apexbench.engine.predict.machine import Machine, ideal
from apexbench.engine.predict.mix import Mix
from apexbench.engine.predict.roofline import binding, intensity, roofs

T4 = Machine(deploy())


def layer_ops(mix: Mix, machine: Machine = T4) -> dict[str, OpPrediction]:
    return {op.name: op for op in predict(machine, mix).layer.ops}


def test_roofs_are_the_profile_s_peaks_and_shares() -> None:
    sheet, products, decode, on_cpu = roofs(T4)
    assert (sheet.flops_per_s, sheet.bytes_per_s) == (65e12, 320e9)
    assert products.flops_per_s == pytest.approx(0.35 * 65e12)
    assert products.bytes_per_s == pytest.approx(0.75 * 320e9)
    assert (decode.flops_per_s, decode.bytes_per_s) == (None, pytest.approx(0.7 * 320e9))
    assert (on_cpu.lane, on_cpu.bytes_per_s) == ("cpu", pytest.approx(18e9))
    assert roofs(Machine(deploy(), 60e9))[3].bytes_per_s == pytest.approx(60e9)


def test_quantised_weights_have_a_roof_of_their_own() -> None:
    products = roofs(Machine(deploy(weights="int4")))[1]
    assert products.flops_per_s == pytest.approx(0.30 * 65e12)
    assert products.bytes_per_s == pytest.approx(0.60 * 320e9)


def test_few_rows_are_bound_by_memory_and_many_by_compute() -> None:
    few = layer_ops(Mix(rows=4, kv_tokens=1600))
    assert {few[op].bound_by for op in ("qkv", "down", "gpu_attention")} == {"gpu_bandwidth"}
    assert few["norm"].bound_by == "gpu_latency"
    many = layer_ops(Mix(prefill_tokens=2000))
    assert {many[op].bound_by for op in ("qkv", "down", "prefill_attention")} == {"gpu_compute"}


def test_the_way_of_cpu_rows_is_bound_by_links_and_cpu() -> None:
    found = binding(T4, Mix(cpu_rows=8, cpu_kv_tokens=4000))
    assert (found["send"], found["recv"], found["cpu_attention"]) == (
        "pcie",
        "pcie",
        "cpu_attention",
    )
    assert found["schedule"] == "host"
    assert "gpu_attention" not in found


def test_an_ideal_machine_is_bound_by_no_latency() -> None:
    mix = Mix(rows=4, kv_tokens=1600, cpu_rows=2, cpu_kv_tokens=800)
    assert set(binding(ideal(T4), mix).values()) <= {
        "gpu_bandwidth", "gpu_compute", "pcie", "cpu_attention",
    }  # fmt: skip


def test_decode_attention_does_one_flop_per_byte_without_groups() -> None:
    """4 flop per position, query head and dimension; K and V of 2 bytes each: 4 bytes."""
    ops = layer_ops(Mix(rows=4, kv_tokens=1600, cpu_rows=4, cpu_kv_tokens=1600))
    assert ops["gpu_attention"].intensity == pytest.approx(1.0)
    assert ops["cpu_attention"].intensity == pytest.approx(1.0)
    grouped = Machine(deploy("a10", model="llama-3.1-8b"))
    assert layer_ops(Mix(rows=4, kv_tokens=1600), grouped)["gpu_attention"].intensity == (
        pytest.approx(4.0)
    )


@pytest.mark.parametrize("rows", [1, 64, 500, 3000])
def test_no_op_is_above_the_datasheet(rows: int) -> None:
    sheet = roofs(T4)[0]
    assert sheet.flops_per_s is not None
    for op in layer_ops(Mix(rows=rows, kv_tokens=rows * 100)).values():
        if op.intensity is not None and op.lane == "gpu":
            limit = min(sheet.flops_per_s, op.intensity * sheet.bytes_per_s)
            assert op.flop_per_s <= limit * (1 + 1e-9)


@pytest.mark.parametrize(("flop", "num_bytes"), [(0.0, 8.0), (8.0, 0.0), (0.0, 0.0)])
def test_work_that_is_not_counted_has_no_intensity(flop: float, num_bytes: float) -> None:
    assert intensity(flop, num_bytes) is None
    assert intensity(6.0, 3.0) == 2.0
