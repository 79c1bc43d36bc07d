"""Which kernels are in use: the compiled library at an ISA level, or the fallback and its price."""

import os

from apexbench.cpu_kernels.native import BUILD_COMMAND, FALLBACK, VARIABLE, library
from apexbench.cpu_kernels.structures import ISA_NAMES
from apexbench.errors import UsageError, unknown_name

FALLBACK_NAME = "numpy"
# Measured: 16 rows of 2048 tokens, 32 query and 8 KV heads of 128, fp16, one thread on a Zen 4.
SLOWDOWN = "about 55 times slower than the compiled kernels on one AVX-512 core"


def is_compiled() -> bool:
    """Whether the compiled library is in use. Raises what loading it raises."""
    return library() is not None


def isa() -> str:
    """The ISA level in use, or `numpy` for the fallback."""
    found = library()
    return FALLBACK_NAME if found is None else ISA_NAMES[found.fast.apx_isa_now()]


def supported_isas() -> tuple[str, ...]:
    """The levels this CPU and this build have, slowest first; `numpy` alone in the fallback."""
    found = library()
    if found is None:
        return (FALLBACK_NAME,)
    is_supported = found.fast.apx_isa_is_supported
    return tuple(name for number, name in enumerate(ISA_NAMES) if is_supported(number))


def force_isa(name: str) -> None:
    """Use this level for jobs that are prepared from now on. Raises UsageError."""
    known = supported_isas()
    if name not in known:
        if name not in ISA_NAMES:
            raise unknown_name("ISA level", name, ISA_NAMES)
        raise UsageError(f"this CPU or this build has no level '{name}'; it has {', '.join(known)}")
    found = library()
    if found is not None:
        found.check(found.fast.apx_force_isa(ISA_NAMES.index(name)))


def compiler() -> str | None:
    """What compiled the library, as its --version says; None in the fallback."""
    found = library()
    return None if found is None else found.compiler


def fallback_notice() -> str | None:
    """What a user must know when attention runs in NumPy, one sentence; None with the library."""
    if is_compiled():
        return None
    price = f"attention on the CPU runs in NumPy, {SLOWDOWN}"
    if os.environ.get(VARIABLE) == FALLBACK:
        return f"{price}, because {VARIABLE} says so; unset it for the compiled kernels"
    return f"{price}; for the compiled kernels install a C compiler and run: {BUILD_COMMAND}"
