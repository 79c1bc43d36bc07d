import pytest

from apexbench.engine.deployment import Deployment, deploy
from apexbench.errors import ApexbenchError, UsageError


def test_defaults_are_the_t4_machine_of_the_paper() -> None:
    deployment = deploy()
    assert (deployment.gpu.name, deployment.host.name) == ("t4", "xeon-6130x2")
    assert (deployment.model.name, deployment.weight_dtype) == ("llama-2-7b", "fp16")
    assert (deployment.cpu_kernel.name, deployment.cpu_threads) == ("paper", 31)
    assert deployment.gpu_memory_utilization == 0.95
    assert (deployment.gpu_block_tokens, deployment.cpu_block_tokens) == (16, 64)
    assert deployment.gpu_count == 1


@pytest.mark.parametrize(
    ("gpu", "host", "price"),
    [("a10", "xeon-6342x2", None), ("a10g", "g5.4xlarge", 1.624), ("l4", "g6.4xlarge", 1.323)],
)
def test_gpus_pair_with_their_host(gpu: str, host: str, price: float | None) -> None:
    deployment = deploy(gpu)
    assert (deployment.host.name, deployment.price_usd_per_hour) == (host, price)


def test_host_can_be_chosen() -> None:
    assert deploy("t4", "g4dn.xlarge").cpu_threads == 1
    assert deploy("h100", "g6.16xlarge").host.name == "g6.16xlarge"


def test_cpu_cache_follows_the_gpu_dtype_unless_told() -> None:
    assert deploy("a10", kv_dtype="bf16").cpu_kv_dtype == "bf16"
    assert deploy(cpu_kernel="apexbench", cpu_kv_dtype="int8").cpu_kv_dtype == "int8"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"gpu": "t44"}, "unknown gpu 't44'; did you mean t4"),
        ({"gpu": "h100"}, "gpu 'h100' has no default host; name one with --host"),
        ({"host": "xeon"}, "unknown host 'xeon'"),
        ({"model": "llama"}, "unknown model 'llama'"),
        ({"weights": "int3"}, "unknown weight dtype 'int3'; did you mean int"),
        ({"kv_dtype": "bf16"}, "t4 has no bf16; use fp16"),
        ({"kv_dtype": "int8"}, "unknown GPU KV dtype 'int8'"),
        ({"cpu_kv_dtype": "fp8"}, "unknown CPU KV dtype 'fp8'"),
        ({"cpu_kv_dtype": "int8"}, "CPU kernel 'paper' has no int8 KV; use apexbench"),
        ({"cpu_kernel": "isp"}, "unknown CPU kernel 'isp'; did you mean ispc"),
        ({"cpu_threads": 0}, "0 CPU threads on xeon-6130x2; expected 1 to 32"),
        ({"cpu_threads": 33}, "33 CPU threads on xeon-6130x2; expected 1 to 32"),
        ({"gpu_memory_utilization": 1.2}, r"utilization is 1\.2; expected above 0, at most 1"),
        ({"gpu_memory_utilization": float("nan")}, "utilization is nan"),
    ],
)
def test_bad_choices_are_one_sentence(choices: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        deploy(**choices)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_fewer_threads_slow_the_cpu_down() -> None:
    few, many = (deploy(cpu_threads=threads).costs() for threads in (4, 31))
    assert few.cpu_attention_ns(8, 8000) > 7 * many.cpu_attention_ns(8, 8000)


def test_report_constants_cover_all_three_profiles() -> None:
    deployment = deploy()
    devices = [constant.device for constant in deployment.constants()]
    assert list(dict.fromkeys(devices)) == ["t4", "xeon-6130x2", "paper"]
    assert len({(c.device, c.name) for c in deployment.constants()}) == len(devices)


def test_equal_choices_give_equal_deployments_and_costs() -> None:
    first, second = deploy("a10", model="llama-3.1-8b"), deploy("a10", model="llama-3.1-8b")
    assert isinstance(first, Deployment)
    assert first == second
    assert first.costs().linear_ns(33) == second.costs().linear_ns(33)


def test_every_error_is_of_the_tree() -> None:
    with pytest.raises(ApexbenchError):
        deploy(model="/nonexistent/config.json")
