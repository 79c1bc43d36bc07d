"""Ops of a layer and a step against the cost model and the lanes they are taken from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.deployment import deploy
from apexbench.engine.predict.layer import predict, step_seconds
from apexbench.engine.predict.machine import Machine, ideal, scaled
from apexbench.engine.predict.mix import Mix
from apexbench.engine.predict.ops import ATTENTION, COPY, ELEMENTWISE, GEMM, OVERHEAD, durations
from apexbench.errors import UsageError
from apexbench.records import NS_PER_S

T4 = Machine(deploy())
MACHINES = {
    "t4": T4,
    "a10 gqa": Machine(deploy("a10", model="llama-3.1-8b")),
    "t4 int4": Machine(deploy(weights="int4", cpu_kernel="ispc")),
    # A host that launches a layer more slowly than the GPU runs it.
    "slow launches": scaled(
        Machine(deploy("h100", host="g4dn.xlarge", cpu_kernel="apexbench")),
        {"host.eager_layer_us": 10, "host.captured_layer_us": 200},
    ),
}
LAYER_GPU = ("norm", "qkv", "rope_kv_store", "gpu_attention", "prefill_attention",
             "attention_output", "ffn_norm", "gate_up", "silu", "down", "launch_wait")  # fmt: skip


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    rows, cpu_rows = draw(st.integers(0, 200)), draw(st.integers(0, 200))
    prompt = draw(st.integers(0 if rows or cpu_rows else 1, 2000))
    kv, cpu_kv = draw(st.integers(rows, 3000 * rows)), draw(st.integers(cpu_rows, 3000 * cpu_rows))
    return Mix(rows, kv, prompt, cpu_rows, cpu_kv)


@pytest.mark.parametrize("name", MACHINES)
@given(mix=mixes())
@settings(max_examples=25, deadline=None)
def test_ops_add_up_to_what_the_cost_model_charges(name: str, mix: Mix) -> None:
    machine = MACHINES[name]
    eager = machine.costs()
    costs = eager.captured if mix.is_captured else eager
    ops = {op: seconds * NS_PER_S for op, seconds in durations(machine, mix).items()}
    layer = costs.linear_ns(mix.linear_rows)
    layer += costs.gpu_decode_attention_ns(mix.rows, mix.kv_tokens)
    layer += costs.gpu_prefill_attention_ns(((mix.prefill_tokens, 0),))
    # Two launches and two attentions, each rounded to a nanosecond.
    assert sum(ops[op] for op in LAYER_GPU) == pytest.approx(layer, abs=4)
    assert ops["lm_head"] + ops["sampling"] == pytest.approx(costs.head_ns(mix.sampled_rows), abs=1)
    assert ops["embed"] == pytest.approx(costs.embed_ns(mix.linear_rows), abs=1)
    scheduled = costs.schedule_ns(mix.sampled_rows, mix.is_captured)
    assert ops["schedule"] == pytest.approx(scheduled, abs=1e-3)
    away = costs.send_ns(mix.cpu_rows) + costs.recv_ns(mix.cpu_rows)
    assert ops["send"] + ops["recv"] == pytest.approx(away, abs=2)
    job = costs.cpu_attention_ns(mix.cpu_rows, mix.cpu_kv_tokens)
    job += costs.cpu_dispatch_ns() if mix.cpu_rows else 0
    assert ops["cpu_attention"] + ops["cpu_dispatch"] == pytest.approx(job, abs=2)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("mix", [Mix(7, 2940), Mix(3, 900, 500), Mix(0, 0, 64)])
def test_a_step_without_cpu_rows_is_the_sum_of_its_ops(name: str, mix: Mix) -> None:
    machine = MACHINES[name]
    ops = durations(machine, mix)
    once = sum(ops[op] for op in ("schedule", "embed", "lm_head", "sampling"))
    layers = machine.deployment.model.num_layers
    total = layers * sum(ops[op] for op in LAYER_GPU) + once
    assert step_seconds(machine, mix) == pytest.approx(total, abs=1e-9 * (4 * layers + 4))


def test_the_launch_floor_shows_as_an_op_of_its_own() -> None:
    ops = durations(MACHINES["slow launches"], Mix(1, 100, 1))
    assert ops["launch_wait"] > 0
    assert durations(T4, Mix(7, 2940, 16))["launch_wait"] == 0
    assert predict(MACHINES["slow launches"], Mix(1, 100)).bottleneck.resource == "launches"


def test_bytes_and_flop_are_those_of_the_matrices() -> None:
    prediction = predict(T4, Mix(7, 2940, 0, 2, 840))
    ops = {op.name: op for op in prediction.layer.ops}
    hidden, ffn, rows = 4096, 11008, 9
    gate = ops["gate_up"]
    assert gate.flop == pytest.approx(2 * rows * hidden * 2 * ffn, rel=1e-9)
    weights = 2 * hidden * 2 * ffn
    assert gate.bytes == pytest.approx(weights + 2 * rows * (hidden + 2 * ffn), rel=1e-9)
    assert ops["gpu_attention"].bytes == pytest.approx(2940 * 2 * 2 * hidden, rel=1e-9)
    assert ops["gpu_attention"].flop == pytest.approx(4 * hidden * 2940, rel=1e-9)
    assert ops["cpu_attention"].bytes == pytest.approx(840 * 2 * 2 * hidden, rel=1e-9)
    assert ops["send"].bytes == pytest.approx(2 * 3 * hidden * 2, rel=1e-9)
    assert ops["recv"].bytes == pytest.approx(2 * hidden * 2, rel=1e-9)
    assert ops["silu"].bytes == pytest.approx(rows * 3 * ffn * 2, rel=1e-9)
    assert ops["norm"].bytes == pytest.approx(rows * 4 * hidden * 2, rel=1e-9)
    assert prediction.roofline.weight_bytes == pytest.approx(
        2 * (32 * T4.deployment.model.linear_params_per_layer + 32000 * hidden), rel=1e-9
    )


def test_no_op_beats_the_datasheet() -> None:
    for mix in (Mix(7, 2940), Mix(64, 64_000), Mix(0, 0, 2048)):
        prediction = predict(T4, mix)
        shares = [
            op.roofline_share for op in (*prediction.layer.ops, *prediction.step.ops)
            if op.roofline_share is not None
        ]  # fmt: skip
        assert shares
        assert all(0 < share <= 1 for share in shares)


def test_every_op_has_a_known_kind_and_a_provenance() -> None:
    prediction = predict(T4, Mix(7, 2940, 100, 2, 840))
    ops = (*prediction.layer.ops, *prediction.step.ops)
    assert {op.kind for op in ops} == {GEMM, ATTENTION, ELEMENTWISE, COPY, OVERHEAD}
    assert all(op.provenance.kind and op.provenance.worst and op.provenance.sigma for op in ops)
    assert sum(op.share for op in prediction.layer.ops) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mix", "resource", "words"),
    [
        (Mix(7, 2940), "gpu_bandwidth", "memory-bandwidth-bound"),
        (Mix(0, 0, 2048), "gpu_compute", "compute-bound"),
        (Mix(7, 2940, 0, 40, 40 * 420), "cpu_attention", "CPU-attention-bound"),
    ],
)
def test_the_bottleneck_is_what_a_step_waits_for(mix: Mix, resource: str, words: str) -> None:
    bottleneck = predict(T4, mix).bottleneck
    assert bottleneck.resource == resource
    assert bottleneck.sentence.startswith(words)
    assert sum(bottleneck.shares.values()) == pytest.approx(1, abs=0.01)


def test_an_ideal_machine_is_faster_and_moves_the_same_bytes() -> None:
    mix = Mix(7, 2940, 0, 2, 840)
    real, free = predict(T4, mix), predict(ideal(T4), mix)
    assert free.step.seconds < real.step.seconds
    assert free.roofline == real.roofline
    assert not [op for op in (*free.layer.ops, *free.step.ops) if op.kind == OVERHEAD]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "nothing to predict"),
        ({"rows": -1}, "--rows is -1"),
        ({"rows": 3, "kv_tokens": 2}, "at least one KV token per row"),
        ({"prefill_tokens": 5, "kv_tokens": 7}, "--rows 0 with --kv-tokens 7"),
        ({"cpu_rows": 3}, "--cpu-rows 3 with --cpu-kv-tokens 0"),
    ],
)
def test_a_mix_that_cannot_be_is_refused(counts: dict[str, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Mix(**counts)
