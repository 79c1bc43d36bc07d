"""Memory of a KV cache: mapped with huge pages where the system gives them, refused in time.

Not the cache itself: bytes and their lifetime only.
"""

import ctypes
import mmap
import re
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.native import Library
from apexbench.errors import InputError

# Of what the kernel says it can give without swapping; the rest is for everything else that this
# process and its neighbours allocate meanwhile, and because the kernel's figure is an estimate.
USABLE_FRACTION = 0.95
BYTES_PER_GIB = 1 << 30
BYTES_PER_KIB = 1 << 10


class _Mapping:
    """Memory of the library; arrays on it keep it alive, the last one unmaps it."""

    def __init__(self, library: Library, num_bytes: int) -> None:
        address = ctypes.c_void_p()
        library.check(library.slow.apx_memory_map(num_bytes, ctypes.addressof(address)))
        self.__array_interface__ = {
            "version": 3,
            "data": (address.value, False),
            "shape": (num_bytes,),
            "typestr": "|u1",
        }
        release = weakref.finalize(self, library.slow.apx_memory_unmap, address.value, num_bytes)
        release.atexit = False  # the system takes it back; workers may still read it until then


def map_bytes(library: Library | None, num_bytes: int) -> NDArray[np.uint8]:
    """Zeroed memory, aligned to a page at least, untouched; it lives while arrays on it do."""
    if library is not None:
        return np.asarray(_Mapping(library, num_bytes))
    try:
        pages = mmap.mmap(-1, num_bytes)
    except OSError as error:
        raise InputError(f"the system does not give {_gib(num_bytes)}: {error.strerror}") from error
    with suppress(OSError):  # a kernel without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def refuse_swapping(library: Library | None, num_bytes: int, block_bytes: int) -> None:
    """InputError when `num_bytes` are more than the machine gives without swapping.

    block_bytes: bytes that one block takes in all layers, to say how many would fit.
    """
    available = available_bytes(library)
    if available is None or num_bytes <= available * USABLE_FRACTION:
        return
    fitting = int(available * USABLE_FRACTION) // block_bytes
    raise InputError(
        f"the KV cache needs {_gib(num_bytes)} and this machine can give {_gib(available)} without"
        f" swapping; at most {fitting} blocks would fit"
    )


def available_bytes(library: Library | None) -> int | None:
    """Bytes the machine can give without swapping, within the cgroup's limit; None: unknown."""
    if library is not None:
        available: int = library.fast.apx_memory_available()
        return available if available >= 0 else None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    limits = [int(found[1]) * BYTES_PER_KIB] if found else []
    limit, used = (_text(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        limits.append(max(0, int(limit) - int(used)))
    return min(limits, default=None)


def huge_page_fraction(library: Library | None, memory: NDArray[np.uint8]) -> float | None:
    """Share of the memory that huge pages back, as the kernel says; None: unknown."""
    if library is None:
        return None
    address: Any = memory.__array_interface__["data"][0]
    fraction: float = library.slow.apx_memory_huge_fraction(address, memory.size)
    return fraction if fraction >= 0 else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / BYTES_PER_GIB:.2f} GiB"
