"""How much KV the memory of this machine holds; allocates nothing."""

import re
from pathlib import Path

from apexbench.engine.capacity import CPU_BLOCK_TOKENS, GIB
from apexbench.engine.models import ModelShape
from apexbench.errors import InputError, UsageError

HOST_SHARE = 0.5
"""Share of the memory left that the host's KV may take: the rest is for what else runs here, and
for what Python, torch and the operating system's caches add while a comparison runs."""

_BYTES_PER_KIB = 1024
_FP32_PER_FP16 = 2


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be had without swapping, within the limit of the control group."""
    text = _read(root / "proc/meminfo")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    free = int(found[1]) * _BYTES_PER_KIB if found else 0
    for folder, limit, used in _CGROUPS:
        most, taken = _read(root / folder / limit).strip(), _read(root / folder / used).strip()
        if most.isdigit() and taken.isdigit():
            free = min(free, max(0, int(most) - int(taken)))
    return free


# Version 2, then version 1.
_CGROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current"),
    ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def kv_bytes_per_token(model: ModelShape, dtype: str) -> int:
    """K and V of one token in all layers; real models have fp32 too."""
    if dtype == "fp32":
        return _FP32_PER_FP16 * model.kv_bytes_per_token("fp16")
    return model.kv_bytes_per_token(dtype)


def host_tokens_limit(bytes_left: int, bytes_per_token: int) -> int:
    """KV tokens that the host tier may have, whole blocks."""
    tokens = int(max(0, bytes_left) * HOST_SHARE) // bytes_per_token
    return tokens // CPU_BLOCK_TOKENS * CPU_BLOCK_TOKENS


def whole_host_blocks(cpu_kv_tokens: int) -> int:
    """A stated number of host KV tokens rounded down to blocks; UsageError below one block."""
    if cpu_kv_tokens < CPU_BLOCK_TOKENS:
        raise UsageError(
            f"--cpu-kv-tokens is {cpu_kv_tokens}; expected at least one block of {CPU_BLOCK_TOKENS}"
        )
    return cpu_kv_tokens // CPU_BLOCK_TOKENS * CPU_BLOCK_TOKENS


def host_tokens(asked: int | None, usual: int, limit: int, bytes_per_token: int) -> int:
    """Tokens of the host's pool: as asked for, else the usual number as far as memory allows.

    InputError where more is asked for than there is room for.
    """
    if asked is None:
        return min(usual, limit)
    if asked > limit:
        raise InputError(
            f"--cpu-kv-tokens {asked} needs {asked * bytes_per_token / GIB:.1f} GiB of this"
            f" machine's memory, which has room for {limit}"
        )
    return whole_host_blocks(asked)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
