"""Builds and runs the C drivers of this folder with any compiler and sanitizer.

`python -m tests.c.driver_builds --sanitizer address,undefined check_kernels --stride 97` builds and
runs one by hand; what follows the driver's name goes to it.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from apexbench.cpu_kernels import build

FOLDER = Path(__file__).resolve().parent
RUN_LIMIT_S = 600

# Each driver's files, and whether it runs the vector levels. Without them a build takes seconds:
# what threads do to each other does not depend on the level.
DRIVERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "check_kernels": (
        (
            *("check_kernels.c", "check_interface.c", "check_numbers.c", "run_level.c"),
            *("compare.c", "cases.c", "case_data.c", "exact.c", "guarded.c", "bench_kernels.c"),
        ),
        True,
    ),
    "check_pool": (("check_pool.c", "pool_*.c"), False),
    "check_readers": (("check_readers.c",), False),
    "check_deadline": (("check_deadline.c",), False),
}

NEWEST_CLANG, OLDEST_CLANG = 40, 14
PACKAGES = {
    "gcc": "gcc",
    "clang": "clang-19 libclang-rt-19-dev",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "qemu-aarch64": "qemu-user",
}
# Debian packages clang's sanitizers apart from clang: linking then misses this file.
SANITIZER_LIBRARY = "libclang_rt"
# What ThreadSanitizer says where the kernel randomises addresses more than it can follow.
RANDOMISED_MEMORY = "ThreadSanitizer: unexpected memory mapping"
# A sanitizer stops at the first finding; races are found with their stacks.
ENVIRONMENT = {
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class MissingToolError(Exception):
    """A program that is not installed; the message says what would install it."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How a driver is built: compiler by name, sanitizers as for -fsanitize (empty: none)."""

    compiler: str
    sanitizer: str = ""

    @property
    def machine(self) -> str:
        """Architecture that the compiler makes code for."""
        is_cross = self.compiler.startswith("aarch64")
        return "aarch64" if is_cross else platform.machine()

    def flags(self, *, is_vector_level: bool) -> tuple[str, ...]:
        """What a file is compiled with, beyond the library's own flags.

        The vector levels force their functions inline, thousands of instructions without a branch
        for each number of heads. Instrumenting those takes minutes; left as functions, a second.
        """
        if not self.sanitizer:
            return ()
        speed = ("-O0", "-Dalways_inline=unused") if is_vector_level else ("-O1",)
        stop = f"-fno-sanitize-recover={self.sanitizer}" if "undefined" in self.sanitizer else ""
        shared = (f"-fsanitize={self.sanitizer}", stop, "-fno-omit-frame-pointer", *speed)
        return tuple(flag for flag in shared if flag)


def find_tool(name: str) -> str:
    """Path of a program; for clang the newest version installed. Raises MissingToolError."""
    names = [f"clang-{i}" for i in range(NEWEST_CLANG, OLDEST_CLANG - 1, -1)]
    for candidate in [*names, name] if name == "clang" else [name]:
        if found := shutil.which(candidate):
            return found
    raise _missing(name, name)


def build_driver(driver: str, variant: Variant, folder: Path) -> Path:
    """Compile the library's sources and the driver's into one program in `folder`."""
    compiler = find_tool(variant.compiler)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        objects = list(pool.map(_run, _compile_commands(compiler, driver, variant, folder)))
    program = folder / driver
    is_cross = variant.machine != platform.machine()
    link = [compiler, *objects, "-pthread", *variant.flags(is_vector_level=False), "-lm"]
    try:
        _run([*link, *(("-static",) if is_cross else ()), "-o", str(program)])
    except RuntimeError as error:
        if SANITIZER_LIBRARY not in str(error):
            raise
        raise _missing(f"{variant.compiler}'s sanitizer", variant.compiler) from error
    return program


def run_driver(
    program: Path, variant: Variant, arguments: Sequence[str] = (), emulated_cpu: str = "max"
) -> subprocess.CompletedProcess[str]:
    """Run it, under qemu when it is for another architecture; output and errors in `stdout`.

    emulated_cpu: a CPU that qemu knows; "max" has everything.
    """
    is_cross = variant.machine != platform.machine()
    emulator = [find_tool(f"qemu-{variant.machine}")] if is_cross else []
    command = [*emulator, str(program), *arguments]
    done = _run_program(command, emulated_cpu)
    if RANDOMISED_MEMORY in done.stdout:
        done = _run_program(["setarch", platform.machine(), "--addr-no-randomize", *command])
    return done


def _missing(what: str, tool: str) -> MissingToolError:
    command = f"apt-get install {PACKAGES[tool]}"
    return MissingToolError(f"{what} is not installed; prove it with: {command}")


def _run_program(command: list[str], emulated_cpu: str = "max") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=RUN_LIMIT_S,
        env={**os.environ, **ENVIRONMENT, "QEMU_CPU": emulated_cpu},
    )


def _compile_commands(
    compiler: str, driver: str, variant: Variant, folder: Path
) -> Iterator[list[str]]:
    """The slowest files first, so that no processor is left with one of them at the end."""
    patterns, has_levels = DRIVERS[driver]
    units = [
        (path, isa)
        for path, isa in build._units(build.SOURCES, build.ISA_FLAGS.get(variant.machine, {}))
        if has_levels or not _is_level(path)
    ]
    own = [(path, ()) for pattern in patterns for path in sorted(FOLDER.glob(pattern))]
    # gcc sees truncations and uninitialised values in instrumented code that are not there.
    warnings = () if variant.sanitizer else build.WARNINGS
    for path, isa in sorted([*units, *own], key=lambda unit: not _is_level(unit[0])):
        target = str(folder / f"{path.parent.name}-{path.stem}.o")
        extra = variant.flags(is_vector_level=_is_level(path))
        flags = [*build.FLAGS, "-g", *warnings, *isa, *extra]
        yield [compiler, *flags, f"-I{build.SOURCES}", "-c", str(path), "-o", target]


def _is_level(path: Path) -> bool:
    return path.stem.startswith("kernel_") and path.stem != "kernel_reference"


def _run(command: list[str]) -> str:
    """Runs a compiler; returns the name of what it made."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return command[-1]


def main() -> int:
    """Build one driver, run it, print what it says; the exit status is the driver's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="gcc")
    parser.add_argument("--sanitizer", default="")
    parser.add_argument("driver", choices=sorted(DRIVERS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="for the driver")
    chosen = parser.parse_args()
    variant = Variant(chosen.compiler, chosen.sanitizer)
    with tempfile.TemporaryDirectory(prefix="apx-driver-") as folder:
        program = build_driver(chosen.driver, variant, Path(folder))
        done = run_driver(program, variant, chosen.arguments)
    sys.stdout.write(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
