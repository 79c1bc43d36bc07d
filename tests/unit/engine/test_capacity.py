import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.capacity import CPU_BLOCK_TOKENS, GIB, GPU_BLOCK_TOKENS, KvCapacity
from apexbench.engine.deployment import Deployment, deploy
from apexbench.engine.hardware import list_hosts
from apexbench.errors import InputError, UsageError

T4 = deploy("t4", model="llama-2-7b")
A10 = deploy("a10", model="llama-3.1-8b")
DEPLOYMENTS = (T4, A10, deploy("l4", model="qwen2.5-32b", weights="int4"))
deployments = st.sampled_from(DEPLOYMENTS)
batched = st.integers(128, 4096)
running = st.integers(8, 512)


def hybrid(deployment: Deployment, deferred: int, prompt: int) -> KvCapacity:
    return deployment.capacity(True, 1024, 128, deferred, prompt)


def test_t4_with_llama_2_7b_holds_few_tokens() -> None:
    capacity = T4.capacity(False, 2048, 256)
    items = dict(capacity.breakdown)
    assert items["weights"] == 2 * 6_738_415_616
    assert items["activations"] == 2048 * (2 * 4096 + 3 * 11008) * 2
    free = 14.25 * GIB - sum(
        items[name] for name in ("weights", "activations", "context", "workspace")
    )
    assert capacity.gpu_kv_tokens == int(free // (16 * 524288)) * 16
    assert 2000 < capacity.gpu_kv_tokens < 3000  # about 7 rows of 420 tokens
    assert not capacity.is_overridden


@given(deployment=deployments, tokens=batched, rows=running, is_hybrid=st.booleans())
def test_breakdown_accounts_for_every_byte(
    deployment: Deployment, tokens: int, rows: int, is_hybrid: bool
) -> None:
    capacity = deployment.capacity(is_hybrid, tokens, rows, 64, 2048)
    items = dict(capacity.breakdown)
    assert sum(items.values()) == capacity.budget_bytes
    assert min(items.values()) >= 0
    per_token = deployment.model.kv_bytes_per_token("fp16")
    assert items["kv_cache"] == capacity.gpu_kv_tokens * per_token
    assert items["unused"] < GPU_BLOCK_TOKENS * per_token
    assert capacity.gpu_kv_tokens % GPU_BLOCK_TOKENS == 0
    assert capacity.cpu_kv_tokens % CPU_BLOCK_TOKENS == 0


@given(
    deployment=deployments,
    tokens=batched,
    rows=running,
    more=st.integers(0, 4096),
    deferred=st.integers(0, 1024),
    prompt=st.integers(0, 4096),
)
def test_whatever_eats_memory_shrinks_the_pool(
    deployment: Deployment, tokens: int, rows: int, more: int, deferred: int, prompt: int
) -> None:
    base = deployment.capacity(False, tokens, rows).gpu_kv_tokens
    assert deployment.capacity(False, tokens + more, rows).gpu_kv_tokens <= base
    assert deployment.capacity(False, tokens, rows + more // 8).gpu_kv_tokens <= base
    with_slots = hybrid(deployment, deferred, prompt).gpu_kv_tokens
    assert with_slots <= deployment.capacity(False, 1024, 128).gpu_kv_tokens
    assert hybrid(deployment, deferred + more, prompt).gpu_kv_tokens <= with_slots
    assert hybrid(deployment, deferred, prompt + more).gpu_kv_tokens <= with_slots


@given(low=st.floats(0.92, 1.0), high=st.floats(0.92, 1.0))
def test_more_utilization_more_tokens(low: float, high: float) -> None:
    low, high = sorted((low, high))
    pools = [
        dataclasses.replace(T4, gpu_memory_utilization=part).capacity(False, 512, 64).gpu_kv_tokens
        for part in (low, high)
    ]
    assert pools[0] <= pools[1]


def test_lighter_weights_leave_more_room() -> None:
    fp16, int8, int4 = (
        deploy("t4", weights=dtype).capacity(False, 2048, 256).gpu_kv_tokens
        for dtype in ("fp16", "int8", "int4")
    )
    assert 4 * fp16 < int8 < int4


def test_hybrids_pay_for_residuals_and_staging() -> None:
    items = dict(hybrid(T4, 256, 4096).breakdown)
    assert items["residual_slots"] == 256 * 4096 * 2
    assert items["kv_staging"] == 2 * 4096 * 16384


def test_stated_capacity_wins_and_is_marked() -> None:
    capacity = deploy("t4", gpu_kv_tokens=870).capacity(False, 2048, 256)
    assert (capacity.gpu_kv_tokens, capacity.is_overridden) == (864, True)
    with pytest.raises(UsageError, match="--gpu-kv-tokens is 15; expected at least one block"):
        deploy("t4", gpu_kv_tokens=15)


@pytest.mark.parametrize(
    ("gpu", "model", "cure"),
    [
        ("t4", "llama-3.1-70b", "use a smaller model or a larger GPU"),
        ("a10", "qwen2.5-32b", "use int4, a smaller model or a larger GPU"),
        ("t4", "llama-3.1-8b", "use int4, a smaller model or a larger GPU"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(gpu: str, model: str, cure: str) -> None:
    with pytest.raises(InputError, match=rf"{model} in fp16 needs .* {cure}$") as caught:
        deploy(gpu, model=model).capacity(False, 2048, 256)
    assert "usable at 0.95" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_cure_named_works() -> None:
    capacity = deploy("a10", model="qwen2.5-32b", weights="int4").capacity(False, 2048, 256)
    assert capacity.gpu_kv_tokens > 0


@pytest.mark.parametrize("host", list_hosts(), ids=lambda host: host.name)
def test_host_keeps_a_reserve(host: object) -> None:
    deployment = deploy("t4", host.name)  # type: ignore[attr-defined]
    capacity = deployment.capacity(True, 2048, 256, 64, 2048)
    memory = deployment.host.memory_gib.value * GIB
    used = capacity.cpu_kv_tokens * 524288
    assert 0 < used <= memory - max(memory / 6, 4 * GIB) + 1
    assert used > memory / 2


def test_reference_host_leaves_150_gib_to_the_cache() -> None:
    assert T4.capacity(True, 2048, 256).cpu_kv_tokens * 524288 == 150 * GIB
