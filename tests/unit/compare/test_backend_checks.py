"""Which options go with which backend, in one sentence each, and how much memory there is."""

from pathlib import Path
from typing import Any

import pytest

from apexbench.compare.machines import checks, memory, real_model
from apexbench.compare.machines.checks import check_backend
from apexbench.compare.machines.engine_modules import require_engine
from apexbench.compare.machines.memory import (
    available_bytes,
    host_tokens,
    host_tokens_limit,
    kv_bytes_per_token,
)
from apexbench.compare.machines.real_model import cpu_machine, host_limit, model_dtype
from apexbench.compare.scenarios import preset_values, scenarios
from apexbench.compare.variants import parse_variant, parse_variants
from apexbench.config import CompareConfig, resolve
from apexbench.engine.capacity import GIB
from apexbench.engine.model.config import read_config
from apexbench.engine.models import shape
from apexbench.errors import InputError, UsageError

CPU = {"backend": "cpu", "model": "llama-2-7b", "weights": "dummy", "gpu_kv_tokens": 512}
EMULATED = {"backend": "emulated", "gpu": "t4"}
SIM = {"gpu": "t4"}


def config(**values: Any) -> CompareConfig:
    return resolve(values, {}, None, preset_values)


def problems(**values: Any) -> list[str]:
    given = config(**values)
    with pytest.raises(UsageError) as caught:
        check_backend(given, parse_variants(given.policies))
    return str(caught.value).splitlines()


@pytest.mark.parametrize("values", [SIM, EMULATED, CPU, {**SIM, "draws": 3, "jobs": 2}])
def test_what_goes_together_passes(values: dict[str, Any]) -> None:
    given = config(**values)
    check_backend(given, parse_variants(given.policies))


@pytest.mark.parametrize(
    ("base", "option", "sentence"),
    [
        (SIM, {"dtype": "fp16"}, "--dtype is for --backend cpu"),
        (SIM, {"gpu_threads": 1}, "--gpu-threads is for --backend cpu"),
        (SIM, {"policies": "gpu-only+gpu_threads=2"}, "+gpu_threads=N is for --backend cpu"),
        (EMULATED, {"draws": 3}, "--draws repeats simulated runs"),
        (EMULATED, {"tornado": True}, "--tornado repeats simulated runs"),
        (EMULATED, {"sweep": ["gpu_kv_tokens=1,2"]}, "--sweep repeats simulated runs"),
        (EMULATED, {"jobs": 2}, "--jobs 2: runs at once would disturb each other"),
        (EMULATED, {"dtype": "fp16"}, "--dtype is for --backend cpu"),
        (EMULATED, {"cpu_kernel": "paper"}, "--cpu-kernel paper is an assumption"),
        (EMULATED, {"cpu_threads": 10**6}, "this process may use"),
        (CPU, {"gpu": "t4"}, "--gpu describes a modelled machine"),
        (CPU, {"host": "g5.xlarge"}, "--host describes a modelled machine"),
        (CPU, {"gpu_memory_utilization": 0.5}, "--gpu-memory-utilization describes a modelled"),
        (CPU, {"cpu_kernel": "apexbench"}, "--cpu-kernel describes a modelled machine"),
        (CPU, {"model": None}, "name it with --model"),
        (CPU, {"gpu_kv_tokens": None}, "give --gpu-kv-tokens"),
        (CPU, {"weights": "int4"}, "--weights int4 is for a modelled GPU"),
        (CPU, {"kv_dtype": "fp16", "dtype": "fp32"}, "its KV has the model's dtype"),
        (CPU, {"jobs": 2}, "--jobs 2: runs at once"),
        (CPU, {"policies": "gpu-only+int4"}, "other weights and beliefs are for modelled"),
        (CPU, {"policies": "apex+belief=g5.xlarge"}, "other weights and beliefs are for modelled"),
        ({}, {"backend": "cuda"}, "comes with the CUDA executor"),
    ],
)  # fmt: skip
def test_what_does_not_is_one_sentence(
    base: dict[str, Any], option: dict[str, Any], sentence: str
) -> None:
    (problem,) = problems(**{**base, **option})
    assert sentence in problem


def test_everything_that_does_not_is_said_at_once() -> None:
    assert len(problems(**EMULATED, draws=3, jobs=2, dtype="fp16")) == 3


def test_random_weights_are_not_for_modelled_machines() -> None:
    with pytest.raises(UsageError, match="--weights dummy is for a real model"):
        scenarios(config(**SIM, weights="dummy"), parse_variants(("gpu-only",)))


def test_jobs_of_one_is_what_real_time_does_anyway() -> None:
    check_backend(config(**EMULATED, jobs=1), ())


@pytest.mark.parametrize("text", ["gpu-only+gpu_threads=0", "gpu-only+gpu_threads=two"])
def test_threads_of_a_variant_are_counted(text: str) -> None:
    with pytest.raises(UsageError, match="gpu_threads must be a whole number of at least 1"):
        parse_variant(text)


def test_a_variant_may_have_more_cores_for_torch() -> None:
    variant = parse_variant("gpu-only+gpu_threads=2")
    assert variant.id == "gpu-only+gpu_threads=2"
    assert variant.document().overrides == {"gpu_threads": 2}


# --- memory ---------------------------------------------------------------------------------------


def machine_files(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_memory_is_what_can_be_had_within_the_control_group(tmp_path: Path) -> None:
    meminfo = "MemTotal:  999 kB\nMemAvailable:   4096 kB\n"
    root = machine_files(tmp_path, proc__meminfo=meminfo)
    assert available_bytes(root) == 4096 * 1024
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert available_bytes(root) == 4096 * 1024
    (group / "memory.max").write_text("1000\n")
    assert available_bytes(root) == 995


def test_nothing_is_available_where_the_system_does_not_say(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) == 0


def test_half_of_the_memory_left_goes_to_the_hosts_kv() -> None:
    assert host_tokens_limit(64 * 1000 * 2, 1000) == 64
    assert host_tokens_limit(64 * 1000 * 2 - 1, 1000) == 0
    assert host_tokens_limit(-5, 1000) == 0


def test_host_tokens_are_as_asked_or_as_usual() -> None:
    assert host_tokens(None, 500, 640, 1) == 500
    assert host_tokens(None, 5000, 640, 1) == 640
    assert host_tokens(130, 5000, 640, 1) == 128
    with pytest.raises(InputError, match=r"--cpu-kv-tokens 700 needs .* has room for 640"):
        host_tokens(700, 0, 640, 1 << 20)
    with pytest.raises(UsageError, match="at least one block of 64"):
        host_tokens(63, 0, 640, 1)


def test_fp32_kv_takes_twice_the_bytes() -> None:
    model = shape("llama-2-7b")
    assert kv_bytes_per_token(model, "fp32") == 2 * kv_bytes_per_token(model, "bf16")
    assert kv_bytes_per_token(model, "int8") < kv_bytes_per_token(model, "fp16")


def test_weights_and_the_gpus_pool_come_first() -> None:
    model = shape("llama-2-7b")
    with pytest.raises(InputError, match=r"needs 12\.6 GiB for its weights .* 8\.0 GiB of memory"):
        host_limit(model, ("fp16", "fp16"), 512, 8 * GIB)
    limit = host_limit(model, ("fp16", "fp16"), 512, 32 * GIB)
    assert 0 < limit < host_tokens_limit(32 * GIB, kv_bytes_per_token(model, "fp16"))


def test_a_model_without_files_has_no_weights() -> None:
    with pytest.raises(UsageError, match="is a shape without weights"):
        cpu_machine(config(**{**CPU, "weights": "auto"}), None, 64 * GIB)


def test_the_machine_gives_each_lane_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_model, "usable_cores", lambda: 8)
    machine = cpu_machine(config(**CPU, dtype="bf16"), None, 64 * GIB)
    assert (machine.gpu_threads, machine.cpu_threads) == (1, 7)
    assert (machine.weight_dtype, machine.kv_dtype, machine.cpu_kv_dtype) == ("bf16",) * 3
    assert machine.capacity.gpu_kv_tokens == 512
    own = cpu_machine(config(**CPU, cpu_kv_dtype="int8"), 3, 64 * GIB)
    assert (own.gpu_threads, own.cpu_threads, own.cpu_kv_dtype) == (3, 5, "int8")


def test_dtype_is_the_checkpoints_unless_asked_for() -> None:
    model = read_config("llama-2-7b")
    assert model_dtype(model, None, has_weights=False) == "fp32"
    assert model_dtype(model, "fp16", has_weights=True) == "fp16"


def test_all_variants_see_the_same_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from apexbench.compare import scenarios as module

    free = iter(range(64 * GIB, 128 * GIB, GIB))
    monkeypatch.setattr(module, "available_bytes", lambda: next(free))
    given = config(**CPU, dtype="fp16")
    (found,) = scenarios(given, parse_variants(given.policies))
    assert len({p.capacity.cpu_kv_tokens for p in found.placements}) == 1
    assert found.id == "torch-on-cpu/llama-2-7b/fixed:64/64"


def test_a_missing_engine_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    from apexbench.compare.machines import engine_modules

    monkeypatch.setattr(engine_modules, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'apexbench\[engine\]'"):
        require_engine()


def test_emulated_hosts_are_bounded_by_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from apexbench.compare import scenarios as module

    monkeypatch.setattr(module, "available_bytes", lambda: 4 * GIB)
    given = config(**EMULATED)
    (found,) = scenarios(given, parse_variants(given.policies))
    per_token = kv_bytes_per_token(shape("llama-2-7b"), "fp16")
    held = {p.capacity.cpu_kv_tokens for p in found.placements}
    assert held == {int(4 * GIB * memory.HOST_SHARE) // per_token // 64 * 64}
    assert found.baseline.hardware.cpu_kernel.name == "apexbench"
    assert found.baseline.hardware.cpu_threads <= max(1, checks.usable_cores() - 1)


def test_a_stated_host_pool_is_obeyed_by_the_simulator_too() -> None:
    given = config(**SIM, cpu_kv_tokens=1000, cpu_kv_dtype="bf16")
    (found,) = scenarios(given, parse_variants(("apex",)))
    assert {p.capacity.cpu_kv_tokens for p in found.placements} == {960}
    assert found.baseline.hardware.cpu_kv_dtype == "bf16"
