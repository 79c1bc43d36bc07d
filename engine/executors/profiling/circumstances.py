"""What a profile was measured on: CPU, cores, NUMA, limits and versions; measures nothing."""

import re
from pathlib import Path
from typing import Any

from apexbench.cpu_kernels.bench.calls import Calls
from apexbench.cpu_kernels.bench.machine import describe_machine, read_quota
from apexbench.cpu_kernels.build import built_digest

CPUS = Path("/sys/devices/system/cpu")
NODES = Path("/sys/devices/system/node")
MEMINFO = Path("/proc/meminfo")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
BYTES_PER_KIB = 1 << 10


def describe(calls: Calls) -> dict[str, Any]:
    """The machine as the kernels' bench describes it, with its cores, NUMA and our library."""
    machine = describe_machine()
    library = calls.library
    return machine | {
        "cores": usable_cores(machine["cpus_allowed"]),
        "numa_nodes": numa_nodes(),
        "isa": calls.level(),
        "kernel_library_sha256": built_digest(library.path),
        "compiler": library.compiler,
    }


def usable_cores(cpus: list[int], root: Path = CPUS) -> int:
    """Cores, not their threads, that this process may use, and no more than its quota's worth."""
    cores = {_read(root / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in cpus}
    quota = read_quota()
    return max(1, len(cores) if quota is None else min(len(cores), int(quota)))


def numa_nodes(root: Path = NODES) -> int:
    """Nodes that have CPUs; 1 where the system does not say."""
    lists = [_read(path) for path in root.glob("node[0-9]*/cpulist")]
    return max(1, sum(bool(cpus) for cpus in lists))


def memory_bytes(meminfo: Path = MEMINFO, limit: Path = MEMORY_LIMIT) -> int:
    """Memory of the machine or of the control group, whichever is less; 0 where unknown."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read(meminfo), re.MULTILINE)
    found = int(match[1]) * BYTES_PER_KIB if match else 0
    bound = _read(limit)
    return min(found, int(bound)) if bound.isdigit() and found else found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
