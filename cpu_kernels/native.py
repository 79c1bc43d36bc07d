"""Finds and loads the compiled library, or says why there is none; calls nothing of it but checks.

APEXBENCH_CPU_KERNELS: `compiled` demands the library, `fallback` leaves it alone, a path (with a
slash) loads that file; unset: the library where it was built, else the fallback.
"""

import ctypes
import os
from functools import cache
from pathlib import Path

from apexbench.cpu_kernels.build import LIBRARY, SOURCES, is_current
from apexbench.cpu_kernels.structures import ABI_VERSION, SIGNATURES, Status
from apexbench.errors import ApexbenchError, InputError, UsageError, unknown_name

VARIABLE = "APEXBENCH_CPU_KERNELS"
COMPILED, FALLBACK = "compiled", "fallback"
BUILD_COMMAND = "python -m apexbench.cpu_kernels.build"


class Library:
    """The loaded library, twice: as ctypes calls it without and with the interpreter's lock.

    `slow` gives the lock up during a call: for what waits, allocates or copies. `fast` keeps it:
    for calls that take less than a few microseconds and never wait for a worker. Giving the lock
    up there could cost a whole switch interval (5 ms) when another Python thread is busy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.slow = ctypes.CDLL(str(path))
            self.fast = ctypes.PyDLL(str(path))
            self._declare(self.slow)
            self._declare(self.fast)
        except (OSError, AttributeError) as error:
            raise InputError(
                f"the CPU kernels in {path} cannot be loaded ({error}); run: {BUILD_COMMAND}"
            ) from error

    def _declare(self, loaded: ctypes.CDLL) -> None:
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype = result
            function.argtypes = arguments

    @property
    def compiler(self) -> str:
        """The compiler that made it, as its --version says."""
        try:
            text = ctypes.c_char.in_dll(self.fast, "apx_build_compiler")
        except ValueError:
            return "unknown"
        return ctypes.string_at(ctypes.addressof(text)).decode(errors="replace")

    def check(self, status: int) -> None:
        """Raise what a status other than OK means, in the library's own sentence."""
        if status != Status.OK:
            raise self.error(status)

    def error(self, status: int) -> ApexbenchError:
        """The exception for a failed call; must be asked by the thread that made the call."""
        text: bytes = self.fast.apx_last_error()
        kind = InputError if status == Status.MEMORY else UsageError
        return kind(text.decode(errors="replace") or Status(status).name.lower())


def library() -> Library | None:
    """The compiled library, None for the fallback; loaded once.

    Raises InputError when it is older than its sources or does not fit this Python code, UsageError
    when APEXBENCH_ISA or APEXBENCH_CPU_KERNELS cannot be followed.
    """
    return _load(os.environ.get(VARIABLE, ""))


@cache
def _load(wish: str) -> Library | None:
    if wish == FALLBACK:
        return None
    if "/" in wish:
        return _checked(Library(Path(wish)))
    if wish not in ("", COMPILED):
        raise unknown_name(f"value of {VARIABLE}", wish, (COMPILED, FALLBACK, "a/path/of/it.so"))
    if LIBRARY.exists():
        _refuse_stale(LIBRARY, SOURCES)
        return _checked(Library(LIBRARY))
    if wish == COMPILED:
        raise InputError(f"{VARIABLE} is 'compiled' and nothing is; run: {BUILD_COMMAND}")
    return None


def _refuse_stale(path: Path, sources: Path) -> None:
    """A library of other sources would compute something else than they say."""
    if sources.is_dir() and not is_current(path, sources):
        raise InputError(
            f"the compiled CPU kernels differ from their sources in {sources}; run: {BUILD_COMMAND}"
        )


def _checked(loaded: Library) -> Library:
    found = loaded.fast.apx_abi_version()
    if found != ABI_VERSION:
        raise InputError(
            f"the CPU kernels in {loaded.path} have interface {found}, not {ABI_VERSION};"
            f" run: {BUILD_COMMAND}"
        )
    refused: bytes | None = loaded.fast.apx_isa_error()
    if refused:
        raise UsageError(f"{refused.decode().partition(';')[0]}; unset it, or name one that is")
    return loaded
