"""This machine with a real model: torch on some of its cores for the GPU, the rest for the CPU."""

from dataclasses import dataclass
from pathlib import Path

from apexbench.compare.machines.checks import usable_cores
from apexbench.compare.machines.memory import (
    host_tokens,
    host_tokens_limit,
    kv_bytes_per_token,
)
from apexbench.config import CompareConfig
from apexbench.engine.capacity import (
    CPU_BLOCK_TOKENS,
    GIB,
    GPU_BLOCK_TOKENS,
    KvCapacity,
    whole_blocks,
)
from apexbench.engine.model.config import ModelConfig, read_config
from apexbench.engine.models import ModelShape
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import InputError, UsageError
from apexbench.result import DeviceConstant

_ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
_STORED = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_DUMMY_DTYPE = "fp32"  # of weights that nobody has stored
_DEFAULT_GPU_THREADS = 1  # a core for each lane, where there are two


@dataclass(frozen=True, slots=True)
class Device:
    """A part of this machine under its name in documents."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class CpuMachine:
    """What a run of the real model consists of; `path` is None for dummy weights of a shape.

    `host_limit` is how many KV tokens of the host tier the machine's memory holds.
    """

    config: ModelConfig
    path: str | None
    weight_dtype: str
    cpu_kv_dtype: str
    gpu_threads: int
    cpu_threads: int
    capacity: KvCapacity
    host_limit: int
    gpu: Device = Device("torch-on-cpu")
    host: Device = Device("this-machine")
    cpu_kernel: Device = Device("apexbench")
    gpu_count: int = 1
    price_usd_per_hour: float | None = None
    gpu_block_tokens: int = GPU_BLOCK_TOKENS
    cpu_block_tokens: int = CPU_BLOCK_TOKENS

    @property
    def model(self) -> ModelShape:
        """The shape of the model."""
        return self.config.shape

    @property
    def kv_dtype(self) -> str:
        """torch's KV has the model's dtype."""
        return self.weight_dtype

    def constants(self) -> tuple[DeviceConstant, ...]:
        """None: what is known is found by calibrating, after the weights have been loaded."""
        return ()


def cpu_machine(
    config: CompareConfig,
    gpu_threads: int | None,
    free_bytes: int,
    usual_host_tokens: int | None = None,
) -> CpuMachine:
    """The machine a configuration asks for; UsageError or InputError in one sentence.

    `gpu_threads` overrides the configuration's; `usual_host_tokens` is the host's pool where nobody
    asked for another, as far as there is memory (None: as many as could ever be used).
    """
    assert config.model is not None and config.gpu_kv_tokens is not None  # noqa: PT018 - checked
    model = read_config(config.model)
    path = None if config.weights == "dummy" else checkpoint(config.model)
    dtype = model_dtype(model, config.dtype or config.kv_dtype, has_weights=path is not None)
    cpu_dtype = config.cpu_kv_dtype or dtype
    gpu_tokens = whole_blocks(config.gpu_kv_tokens)
    torch_threads = gpu_threads or config.gpu_threads or _DEFAULT_GPU_THREADS
    limit = host_limit(model.shape, (dtype, cpu_dtype), gpu_tokens, free_bytes)
    per_token = kv_bytes_per_token(model.shape, cpu_dtype)
    if usual_host_tokens is None:
        usual_host_tokens = Thresholds().max_running_rows * model.shape.max_position
    cpu_tokens = host_tokens(config.cpu_kv_tokens, usual_host_tokens, limit, per_token)
    return CpuMachine(
        config=model,
        path=path,
        weight_dtype=dtype,
        cpu_kv_dtype=cpu_dtype,
        gpu_threads=torch_threads,
        cpu_threads=config.cpu_threads or max(1, usable_cores() - torch_threads),
        capacity=KvCapacity(gpu_tokens, cpu_tokens, 0, (), is_overridden=True),
        host_limit=limit,
    )


def model_dtype(model: ModelConfig, asked: str | None, *, has_weights: bool) -> str:
    """As asked for, else as the checkpoint stores it."""
    if asked is not None:
        return asked
    if not has_weights:
        return _DUMMY_DTYPE
    return _STORED.get(model.stored_dtype or "", _DUMMY_DTYPE)


def checkpoint(name_or_path: str) -> str:
    """The directory of a model's weights; UsageError for a shape that has none."""
    if not Path(name_or_path).is_dir():
        raise UsageError(
            f"'{name_or_path}' is a shape without weights: name a directory with config.json and"
            " safetensors, or add --weights dummy for random ones"
        )
    return name_or_path


def host_limit(model: ModelShape, dtypes: tuple[str, str], gpu_tokens: int, free_bytes: int) -> int:
    """KV tokens of the host tier beside weights and the pool that stands for the GPU's.

    `dtypes` are the model's and the host tier's. InputError where the others alone do not fit.
    """
    dtype, cpu_dtype = dtypes
    weights = model.parameter_count * _ELEMENT_BYTES[dtype]
    pool = gpu_tokens * kv_bytes_per_token(model, dtype)
    if weights + pool > free_bytes:
        raise InputError(
            f"{model.name} in {dtype} needs {weights / GIB:.1f} GiB for its weights and"
            f" {pool / GIB:.1f} GiB for {gpu_tokens} KV tokens, and {free_bytes / GIB:.1f} GiB of"
            " memory are free; use a smaller model, --dtype bf16 or fewer --gpu-kv-tokens"
        )
    left = free_bytes - weights - pool
    return host_tokens_limit(left, kv_bytes_per_token(model, cpu_dtype))
