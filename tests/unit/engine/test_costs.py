import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.costs import CostModel, FlatCosts, ProfileCosts
from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.gemm import gemm
from apexbench.engine.hardware import list_gpus, load_gpu
from apexbench.engine.host_ops import PIECE_BYTES
from apexbench.engine.models import WEIGHT_DTYPES
from apexbench.engine.profile_files import Constant
from apexbench.errors import UsageError

T4 = deploy("t4", model="llama-2-7b")
A10 = deploy("a10", model="llama-3.1-8b")
DEPLOYMENTS = {
    (gpu.name, model, weights): deploy(gpu.name, "xeon-6130x2", model=model, weights=weights)
    for gpu in list_gpus()
    for model in ("llama-2-7b", "llama-3.1-8b")
    for weights in WEIGHT_DTYPES
}
COSTS = {key: deployment.costs() for key, deployment in DEPLOYMENTS.items()}
keys = st.sampled_from(sorted(COSTS))
rows = st.integers(1, 4096)
tokens = st.integers(1, 500_000)
chunks = st.lists(st.tuples(st.integers(1, 2048), st.integers(0, 8192)), min_size=1, max_size=4)


def without_latencies(deployment: Deployment) -> Deployment:
    """The same devices with every fixed latency and overhead at zero."""

    def strip(profile: object) -> object:
        zeroed = {
            spec.name: dataclasses.replace(constant, value=0.0)
            for spec in dataclasses.fields(profile)  # type: ignore[arg-type]
            if isinstance(constant := getattr(profile, spec.name), Constant)
            and constant.unit == "us"
        }
        return dataclasses.replace(profile, **zeroed)  # type: ignore[type-var]

    return dataclasses.replace(
        deployment,
        gpu=strip(deployment.gpu),  # type: ignore[arg-type]
        host=strip(deployment.host),  # type: ignore[arg-type]
        cpu_kernel=strip(deployment.cpu_kernel),  # type: ignore[arg-type]
    )


def all_ops(costs: CostModel) -> dict[str, Callable[[int], int]]:
    """Every duration as a function of one size."""
    return {
        "pre": costs.pre_ns,
        "post": costs.post_ns,
        "linear": costs.linear_ns,
        "decode": lambda n: costs.gpu_decode_attention_ns(n, 100 * n),
        "prefill": lambda n: costs.gpu_prefill_attention_ns(((n, n),)),
        "head": costs.head_ns,
        "embed": costs.embed_ns,
        "cpu": lambda n: costs.cpu_attention_ns(n, 100 * n),
        "send": costs.send_ns,
        "recv": costs.recv_ns,
        "h2d": lambda n: costs.copy_ns("h2d", n),
        "d2h": lambda n: costs.copy_ns("d2h", n),
    }


def test_t4_with_llama_2_7b_is_weight_bound_near_1_7_ms() -> None:
    costs = T4.costs()
    assert costs.linear_ns(7) == pytest.approx(1.70e6, rel=0.04)
    assert costs.gpu_decode_attention_ns(7, 7 * 420) == pytest.approx(0.23e6, rel=0.05)


def test_gpu_only_step_without_latencies_gives_the_closed_form() -> None:
    """7 rows of 420 tokens on a T4: 113 tokens/s from weights, KV and LM head alone."""
    costs = without_latencies(T4).costs()
    layer = costs.linear_ns(7) + costs.gpu_decode_attention_ns(7, 7 * 420)
    step_s = (32 * layer + costs.head_ns(7)) / 1e9
    weights = 2 * (32 * T4.model.linear_params_per_layer + 32000 * 4096) / (0.75 * 320e9)
    attention = 7 * 420 * 524288 / (0.70 * 320e9)
    assert step_s == pytest.approx(weights + attention, rel=0.01)  # small kernels: 0.5 %
    assert 7 / step_s == pytest.approx(113, rel=0.01)


def test_t4_becomes_compute_bound_past_about_100_rows() -> None:
    costs = T4.costs()
    assert costs.linear_ns(32) < 1.05 * costs.linear_ns(1)
    assert costs.linear_ns(512) / costs.linear_ns(256) == pytest.approx(2, rel=0.05)
    knee = next(n for n in range(1, 513) if costs.linear_ns(n) > 1.26 * costs.linear_ns(1))
    assert 70 < knee < 110  # 2^(1/3) of the plateau is where compute equals memory


@given(key=keys, small=rows, more=st.integers(0, 512))
def test_every_duration_is_an_int_and_monotone(
    key: tuple[str, str, str], small: int, more: int
) -> None:
    for name, op in all_ops(COSTS[key]).items():
        assert type(op(small)) is int, name
        assert 1 <= op(small) <= op(small + more), name


@given(key=keys)
def test_no_work_takes_no_time(key: tuple[str, str, str]) -> None:
    costs = COSTS[key]
    assert {name: op(0) for name, op in all_ops(costs).items()} == dict.fromkeys(all_ops(costs), 0)
    assert costs.gpu_prefill_attention_ns(()) == 0
    assert costs.cpu_attention_ns(0, 0, 1 << 20) == 0


@given(key=keys, n=rows)
def test_a_launch_group_is_post_and_pre(key: tuple[str, str, str], n: int) -> None:
    costs = COSTS[key]
    assert costs.linear_ns(n) == costs.pre_ns(n) + costs.post_ns(n)
    assert costs.linear_ns(n) == costs.linear_ns(n)  # the memo returns what it stored


@given(key=keys, n=rows, kv=tokens, more=st.integers(0, 10_000))
def test_attention_is_monotone_in_kv_and_rows(
    key: tuple[str, str, str], n: int, kv: int, more: int
) -> None:
    costs = COSTS[key]
    assert costs.gpu_decode_attention_ns(n, kv) <= costs.gpu_decode_attention_ns(n, kv + more)
    assert costs.gpu_decode_attention_ns(n, kv) <= costs.gpu_decode_attention_ns(n + more, kv)
    assert costs.cpu_attention_ns(n, kv) <= costs.cpu_attention_ns(n, kv + more)
    assert costs.cpu_attention_ns(n, kv) <= costs.cpu_attention_ns(n + more, kv)
    assert costs.cpu_attention_ns(n, kv) <= costs.cpu_attention_ns(n, kv, copy_bytes=more << 20)


@given(key=keys, parts=chunks, more=st.integers(0, 4096))
def test_prefill_is_monotone_in_context_and_chunks(
    key: tuple[str, str, str], parts: list[tuple[int, int]], more: int
) -> None:
    costs = COSTS[key]
    whole = costs.gpu_prefill_attention_ns(tuple(parts))
    (new, before), rest = parts[0], parts[1:]
    assert whole <= costs.gpu_prefill_attention_ns(((new, before + more), *rest))
    assert costs.gpu_prefill_attention_ns(tuple(rest)) < whole
    assert whole == costs.gpu_prefill_attention_ns((*parts, (0, more)))


@given(key=keys, n=rows, kv=tokens)
def test_nothing_beats_the_datasheet(key: tuple[str, str, str], n: int, kv: int) -> None:
    deployment, costs = DEPLOYMENTS[key], COSTS[key]
    model, gpu = deployment.model, deployment.gpu
    peak, bandwidth = gpu.peak_tflops.value * 1e12, gpu.dram_gb_per_s.value * 1e9
    linear = model.linear_params_per_layer
    bytes_per_weight = {"fp16": 2, "int8": 1, "int4": 0.5}[key[2]]
    assert costs.linear_ns(n) >= linear * bytes_per_weight / bandwidth * 1e9
    assert costs.linear_ns(n) >= 2 * linear * n / peak * 1e9
    kv_bytes = kv * model.kv_bytes_per_token_layer("fp16")
    assert costs.gpu_decode_attention_ns(n, kv) >= kv_bytes / bandwidth * 1e9
    flops = 4 * model.q_size * n * (n + 1) / 2
    assert costs.gpu_prefill_attention_ns(((n, 0),)) >= flops / peak * 1e9
    host = deployment.host.dram_peak_gb_per_s.value * 1e9
    assert costs.cpu_attention_ns(n, kv) >= kv_bytes / host * 1e9


@given(gpu=st.sampled_from(list_gpus()), n=rows)
def test_quantised_weights_help_small_batches_and_never_large_ones(gpu: object, n: int) -> None:
    name = gpu.name  # type: ignore[attr-defined]
    fp16, int8, int4 = (COSTS[name, "llama-3.1-8b", dtype] for dtype in WEIGHT_DTYPES)
    assert int4.linear_ns(1) < int8.linear_ns(1) < fp16.linear_ns(1)
    assert int4.linear_ns(4096) > fp16.linear_ns(4096)
    assert int4.head_ns(n) == fp16.head_ns(n)  # the LM head stays fp16


def test_gemm_limits_are_the_two_rooflines() -> None:
    product = gemm(load_gpu("t4"), 4096, 4096, "fp16")
    memory = 10e-6 + 2 * (4096 * 4096 + 2 * 4096) / (0.75 * 320e9)
    compute = 10e-6 + 2 * 65536 * 4096 * 4096 / (0.35 * 65e12)
    assert product.seconds(1) == pytest.approx(memory, rel=1e-3)
    assert product.seconds(65536) == pytest.approx(compute, rel=2e-3)


def test_a_kernel_bound_job_hides_copies_until_dram_saturates() -> None:
    costs = T4.costs()
    alone = costs.cpu_attention_ns(7, 2940)
    assert alone == round(2940 * 16384 / 18e9 * 1e9)
    assert costs.cpu_attention_ns(7, 2940, copy_bytes=10 << 20) == alone
    copied = 1 << 30
    expected = (2940 * 16384 + copied) / (256e9 * 0.8) * 1e9
    assert costs.cpu_attention_ns(7, 2940, copy_bytes=copied) == pytest.approx(expected, abs=1)


def test_small_transfers_pay_latency_and_bulk_copies_pay_per_piece() -> None:
    costs = T4.costs()
    assert costs.send_ns(2) - costs.send_ns(1) == pytest.approx(3 * 8192 / 11.1, abs=1)
    assert costs.recv_ns(2) - costs.recv_ns(1) == pytest.approx(8192 / 11.3, abs=1)
    one_piece = costs.copy_ns("d2h", PIECE_BYTES)
    assert costs.copy_ns("d2h", PIECE_BYTES + 1) - one_piece == pytest.approx(2000, abs=1)
    with pytest.raises(UsageError, match="unknown copy direction 'd2d'"):
        costs.copy_ns("d2d", 1)


def test_scheduling_grows_with_rows() -> None:
    costs = T4.costs()
    assert costs.schedule_ns(0, captured=False) == 189_000
    assert costs.schedule_ns(10, captured=False) == 249_000


def test_eager_launches_are_a_floor_that_capture_removes() -> None:
    fast = deploy("h200", "xeon-6130x2", model="qwen2.5-7b", weights="int4").costs()
    eager, captured = fast.linear_ns(1), fast.captured.linear_ns(1)
    assert captured < eager
    assert eager >= 48_000 * 9 / 10 - 1  # all but the attention's share of 48 us a layer
    assert fast.captured.captured is fast.captured
    slow = T4.costs()
    assert slow.captured.linear_ns(7) == slow.linear_ns(7)


def test_layers_and_kv_bytes_follow_the_model_and_dtypes() -> None:
    costs = deploy("t4", cpu_kernel="apexbench", cpu_kv_dtype="int8").costs()
    assert costs.num_layers == 32
    assert costs.kv_bytes_per_token_layer_gpu == 16384
    assert costs.kv_bytes_per_token_layer_cpu == 2 * 32 * (128 + 2)
    int8, fp16 = costs, deploy("t4", cpu_kernel="apexbench").costs()
    gain = fp16.cpu_attention_ns(16, 16 * 2048) / int8.cpu_attention_ns(16, 16 * 2048)
    assert 1.5 < gain < 1.85


def test_both_implementations_satisfy_the_protocol() -> None:
    models: tuple[CostModel, ...] = (T4.costs(), A10.costs(), FlatCosts(num_layers=2))
    assert [model.num_layers for model in models] == [32, 32, 2]
    assert isinstance(models[0], ProfileCosts)


def test_flat_costs_charge_what_was_injected() -> None:
    flat = FlatCosts(
        num_layers=4,
        linear_s=lambda n: max(1.11e-3, 8.1e-6 * n),
        gpu_attention_s=1e-6,
        gpu_attention_s_per_token=2e-9,
        prefill_attention_s_per_token=1e-9,
        head_s=1e-3,
        embed_s=5e-6,
        cpu_attention_s=3e-6,
        cpu_attention_s_per_row=1e-6,
        cpu_attention_s_per_token=4e-9,
        cpu_dispatch_s=7e-6,
        send_s=8e-6,
        recv_s=9e-6,
        copy_s_per_byte=1e-10,
        schedule_s=1e-4,
        schedule_s_per_row=1e-6,
        pre_share=0.3,
    )
    assert (flat.linear_ns(10), flat.linear_ns(1000)) == (1_110_000, 8_100_000)
    assert (flat.pre_ns(10), flat.post_ns(10)) == (333_000, 777_000)
    assert flat.gpu_decode_attention_ns(2, 500) == 2_000
    assert flat.gpu_prefill_attention_ns(((10, 100),)) == 1_055
    assert (flat.head_ns(1), flat.embed_ns(1)) == (1_000_000, 5_000)
    assert flat.cpu_attention_ns(2, 1000, 99) == 9_000
    assert flat.cpu_dispatch_ns() == 7_000
    assert (flat.send_ns(3), flat.recv_ns(3)) == (8_000, 9_000)
    assert flat.copy_ns("h2d", 10_000) == 1_000
    assert flat.schedule_ns(10, captured=True) == 110_000
    assert flat.captured is flat


@given(n=st.integers(0, 1000), share=st.floats(0, 1), linear=st.floats(0, 1e-2))
def test_flat_costs_split_exactly_and_default_to_nothing(
    n: int, share: float, linear: float
) -> None:
    flat = FlatCosts(num_layers=1, linear_s=linear, pre_share=share)
    assert flat.pre_ns(n) + flat.post_ns(n) == flat.linear_ns(n)
    assert min(flat.pre_ns(n), flat.post_ns(n)) >= 0
    others = {name: op(n) for name, op in all_ops(flat).items()}
    assert set(others.values()) == {others["pre"], others["post"], others["linear"], 0} | {0}
    assert flat.schedule_ns(n, captured=False) == flat.cpu_dispatch_ns() == 0
