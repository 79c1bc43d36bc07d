"""The circumstances of a measurement, read from the system; what it does not tell is None."""

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

CPU_FOLDER = Path("/sys/devices/system/cpu")
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
VECTOR_FLAGS = (
    *("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"),
    *("avx512_vnni", "avx512vbmi", "avx512_fp16", "amx_bf16", "asimd", "asimdhp", "bf16"),
)
_SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def describe_machine() -> dict[str, Any]:
    """CPU, its vector instructions, what this process may use of it, kernel and versions."""
    info = _read("/proc/cpuinfo") or ""
    return {
        "cpu": _field(info, "model name") or platform.machine(),
        "cpu_family": _field(info, "cpu family"),
        "cpu_model": _field(info, "model"),
        "vector_flags": sorted(set(VECTOR_FLAGS) & set(_flags(info))),
        "cpus_online": os.cpu_count(),
        "cpus_allowed": sorted(os.sched_getaffinity(0)),
        "cgroup_quota_cpus": read_quota(),
        "governor": _read(CPU_FOLDER / "cpu0/cpufreq/scaling_governor"),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "transparent_huge_pages": _chosen(_read(HUGE_PAGES)),
        "kernel": platform.release(),
        "load_average": list(os.getloadavg()),
        "versions": {
            "apexbench": _version("apexbench"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


def last_level_cache_bytes() -> int:
    """Of CPU 0, from sysfs; 0 where it does not say."""
    sizes = [_read(path) or "" for path in CPU_FOLDER.glob("cpu0/cache/index*/size")]
    return max((parse_size(size) for size in sizes), default=0)


def parse_size(text: str) -> int:
    """'32768K' and the like in bytes; 0 for anything else."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text.strip())
    return int(match[1]) * _SIZE_UNITS.get(match[2], 1) if match else 0


def read_quota(unified: Path = CGROUP_QUOTA, legacy: Path = CGROUP_V1) -> float | None:
    """CPUs that the control group grants, in version 2 or 1 of its files; None: no limit known."""
    quota, _, period = (_read(unified) or "").partition(" ")
    if not period:
        quota = _read(legacy / "cpu.cfs_quota_us") or ""
        period = _read(legacy / "cpu.cfs_period_us") or ""
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no such files
        return None
    return cpus if cpus > 0 else None


def _read(path: str | Path) -> str | None:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return None


def _field(info: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else None


def _flags(info: str) -> list[str]:
    return (_field(info, "flags") or _field(info, "Features") or "").split()


def _chosen(setting: str | None) -> str | None:
    match = re.search(r"\[(\w+)\]", setting or "")
    return match[1] if match else None


def _version(package: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None
