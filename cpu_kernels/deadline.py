"""Waiting for a time in C, and stamping the time a job was done; measures and decides nothing.

Times are nanoseconds of CLOCK_MONOTONIC, which is what time.monotonic_ns() reads.
"""

import ctypes
from collections.abc import Callable

from apexbench.cpu_kernels.native import BUILD_COMMAND, Library, library
from apexbench.errors import InputError

WaitUntil = Callable[[int, int], int]


def wait_until() -> WaitUntil:
    """The function (deadline_ns, spin_ns) -> when it returned, never before the deadline.

    It sleeps until spin_ns before the deadline and polls from there, without the interpreter's
    lock. Raises InputError where the library is not compiled.
    """
    found: WaitUntil = _library().slow.apx_wait_until
    return found


def stamp_callback() -> int:
    """Address of the C function for `Submission.notify(callback=...)` that writes the time a job
    was done into the int64 whose address is `user`. Raises InputError without the library.
    """
    return ctypes.cast(_library().fast.apx_stamp, ctypes.c_void_p).value or 0


def _library() -> Library:
    found = library()
    if found is None:
        raise InputError(
            f"time is kept by the compiled CPU kernels, which are not in use; run: {BUILD_COMMAND}"
        )
    return found
