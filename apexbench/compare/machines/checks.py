"""Which options go with which backend; one sentence for each that does not."""

import os
from collections.abc import Iterable, Iterator

from apexbench.compare.variants import VariantSpec
from apexbench.config import CompareConfig
from apexbench.errors import UsageError

# Options that say something about a modelled machine only.
_MODELLED = ("gpu", "host", "cpu_kernel", "gpu_memory_utilization")
# Options of the real model.
_OF_REAL_MODEL = ("gpu_threads", "dtype")
_STUDIES = ("draws", "tornado", "sweep")
_ASSUMED_KERNELS = ("paper", "ispc")
_CHECKPOINT_WEIGHTS = ("auto", "dummy")


def check_backend(config: CompareConfig, variants: Iterable[VariantSpec]) -> None:
    """UsageError with everything that does not go with the backend, a line each."""
    if config.backend == "cuda":
        raise UsageError(
            "--backend cuda comes with the CUDA executor, which this version does not have; use"
            " sim, emulated or cpu"
        )
    problems = [*_problems(config), *_variant_problems(config, variants)]
    if problems:
        raise UsageError("\n".join(problems))


def check_real_model(config: CompareConfig) -> None:
    """UsageError with everything that keeps a real model from running, a line each."""
    problems = [*_of_real_model(config), *_threads(config)]
    if problems:
        raise UsageError("\n".join(problems))


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0))


def _problems(config: CompareConfig) -> Iterator[str]:
    if config.is_real_time:
        yield from _of_real_time(config)
    if config.backend == "cpu":
        yield from _of_cpu(config)
    else:
        for key in _given(config, _OF_REAL_MODEL):
            yield f"{_origin(config, key)} is for --backend cpu, which runs a real model"
    if config.backend == "emulated" and config.cpu_kernel in _ASSUMED_KERNELS:
        yield (
            f"--cpu-kernel {config.cpu_kernel} is an assumption, and --backend emulated runs this"
            " project's own kernel; use apexbench, or measured with the --host of a profile"
        )


def _of_real_time(config: CompareConfig) -> Iterator[str]:
    for key in _given(config, _STUDIES):
        if getattr(config, key):
            yield (
                f"{_origin(config, key)} repeats simulated runs with other constants, which a real"
                f" machine does not have; leave it out with --backend {config.backend}"
            )
    if config.jobs is not None and config.jobs > 1:
        yield (
            f"{_origin(config, 'jobs')} {config.jobs}: runs at once would disturb each other with"
            f" --backend {config.backend}; leave it out"
        )
    yield from _threads(config)


def _of_cpu(config: CompareConfig) -> Iterator[str]:
    for key in _given(config, _MODELLED):
        yield (
            f"{_origin(config, key)} describes a modelled machine, and --backend cpu runs on this"
            " one; leave it out"
        )
    if config.gpu_kv_tokens is None:
        yield (
            "--backend cpu has no GPU whose memory could say how many KV tokens fit: give"
            " --gpu-kv-tokens"
        )
    yield from _of_real_model(config)


def _of_real_model(config: CompareConfig) -> Iterator[str]:
    if config.model is None:
        yield (
            "a real model runs here: name it with --model, a directory with config.json and"
            " safetensors, or a config.json or built-in shape with --weights dummy"
        )
    if config.weights not in _CHECKPOINT_WEIGHTS:
        yield (
            f"--weights {config.weights} is for a modelled GPU; a real model takes auto (what the"
            " checkpoint has) or dummy, and --dtype"
        )
    if None not in (config.kv_dtype, config.dtype) and config.kv_dtype != config.dtype:
        yield (
            f"--kv-dtype {config.kv_dtype} does not go with --dtype {config.dtype}: where torch is"
            " the GPU, its KV has the model's dtype"
        )


def _threads(config: CompareConfig) -> Iterator[str]:
    cores = usable_cores()
    for key in ("cpu_threads", "gpu_threads"):
        threads = getattr(config, key)
        if threads is not None and threads > cores:
            yield f"{_origin(config, key)} is {threads}; this process may use {cores} cores"


def _variant_problems(config: CompareConfig, variants: Iterable[VariantSpec]) -> Iterator[str]:
    for variant in variants:
        if variant.gpu_threads is not None and config.backend != "cpu":
            yield f"policy {variant.id}: +gpu_threads=N is for --backend cpu"
        is_modelled = variant.weights is not None or variant.belief is not None
        if is_modelled and config.backend == "cpu":
            yield (
                f"policy {variant.id}: other weights and beliefs are for modelled machines, not"
                " for --backend cpu"
            )


def _given(config: CompareConfig, keys: Iterable[str]) -> list[str]:
    return [key for key in keys if config.is_given(key)]


def _origin(config: CompareConfig, key: str) -> str:
    return config.provenance.get(key, key)
