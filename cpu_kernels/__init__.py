"""CPU decode-attention kernels in C; no other package but the executors imports them.

The names below are loaded on first use: importing the package needs neither NumPy nor the library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ != "apexbench.cpu_kernels":
    raise ImportError(
        "import 'apexbench.cpu_kernels', not 'cpu_kernels': the bare name is not installed"
    )

if TYPE_CHECKING:
    from apexbench.cpu_kernels.attention import decode_attention
    from apexbench.cpu_kernels.cache import KvCache
    from apexbench.cpu_kernels.extents import ExtentAllocator, block_table
    from apexbench.cpu_kernels.geometry import KvGeometry
    from apexbench.cpu_kernels.job import Job, Submission
    from apexbench.cpu_kernels.levels import (
        fallback_notice,
        force_isa,
        is_compiled,
        isa,
        supported_isas,
    )
    from apexbench.cpu_kernels.pool import Pool, Priority, Ticket

_MODULES = {
    "ExtentAllocator": "extents",
    "Job": "job",
    "KvCache": "cache",
    "KvGeometry": "geometry",
    "Pool": "pool",
    "Priority": "pool",
    "Submission": "job",
    "Ticket": "pool",
    "block_table": "extents",
    "decode_attention": "attention",
    "fallback_notice": "levels",
    "force_isa": "levels",
    "is_compiled": "levels",
    "isa": "levels",
    "supported_isas": "levels",
}

__all__ = [
    "ExtentAllocator",
    "Job",
    "KvCache",
    "KvGeometry",
    "Pool",
    "Priority",
    "Submission",
    "Ticket",
    "block_table",
    "decode_attention",
    "fallback_notice",
    "force_isa",
    "is_compiled",
    "isa",
    "supported_isas",
]


def __getattr__(name: str) -> object:
    """The public names, from the modules that define them."""
    if name in _MODULES:
        return getattr(import_module(f"apexbench.cpu_kernels.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'apexbench.cpu_kernels' has no attribute '{name}'")
