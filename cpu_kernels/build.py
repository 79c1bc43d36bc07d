"""Compiles csrc/ into the shared library; needs a C compiler and nothing but Python itself.

`python -m apexbench.cpu_kernels.build` builds in place. The installation loads this file by path,
before the package or any dependency exists: it must import nothing of either.
"""

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = FOLDER / "csrc"
LIBRARY_NAME = "libapx.so"
LIBRARY = FOLDER / LIBRARY_NAME

COMPILERS = ("cc", "gcc", "clang")
# No -march, no -ffast-math: what the library may use is decided when it is loaded. Contraction off:
# a multiplication and an addition become one instruction only where the source says so.
FLAGS = ("-std=c11", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-pthread")
WARNINGS = (
    *("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion"),
    *("-Wmissing-prototypes", "-Wvla", "-Werror"),
)
LINK_FLAGS = ("-shared", "-pthread", "-Wl,-z,defs,-z,relro,-z,now")
LINK_LIBRARIES = ("-lm",)

_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
_AVX512X = (*_AVX512, "-mavx512bf16", "-mavx512vnni", "-mavx512vbmi")
# What a file may use beyond the baseline of its architecture, by the end of its name.
ISA_FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"_avx2": _AVX2, "_avx512": _AVX512, "_avx512x": _AVX512X},
    "aarch64": {"_neon": ()},
}

_STAMP = re.compile(rb"apx-sources:([0-9a-f]{64})\0")
_STAMP_SOURCE = """\
extern const char apx_build_stamp[], apx_build_compiler[];
__attribute__((visibility("default"))) const char apx_build_stamp[] = "apx-sources:{digest}";
__attribute__((visibility("default"))) const char apx_build_compiler[] = "{compiler}";
"""
MAX_SHOWN_LINES = 20

# A source and the flags it needs beyond the common ones.
Unit = tuple[Path, tuple[str, ...]]


class BuildError(Exception):
    """The library could not be built; the message is one sentence, with the compiler's after it."""


def sources_digest(sources: Path = SOURCES) -> str:
    """SHA-256 of everything the library is made of: names and bytes of csrc/, and the flags."""
    digest = hashlib.sha256(repr((FLAGS, ISA_FLAGS, LINK_FLAGS)).encode())
    for path in sorted((*sources.glob("*.c"), *sources.glob("*.h"))):
        content = path.read_bytes()
        digest.update(f"\n{path.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def built_digest(library: Path) -> str | None:
    """The digest of the sources that a library file was built from; None without such a file."""
    if not library.is_file():
        return None
    match = _STAMP.search(library.read_bytes())
    return match[1].decode() if match else None


def is_current(library: Path = LIBRARY, sources: Path = SOURCES) -> bool:
    """Whether the library exists and was built from the sources as they are now."""
    return built_digest(library) == sources_digest(sources)


def find_compiler() -> list[str]:
    """The compiler's command: CC, else the first of cc, gcc and clang on the path."""
    named = shlex.split(os.environ.get("CC", ""))
    for command in [named] if named else [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    if named:
        raise BuildError(f"CC names '{named[0]}', which is not an executable on the path")
    raise BuildError(f"no C compiler on the path ({', '.join(COMPILERS)}); install one, or set CC")


def build(
    library: Path = LIBRARY,
    *,
    sources: Path = SOURCES,
    machine: str | None = None,
    is_strict: bool = False,
) -> None:
    """Compile every source for this architecture, in parallel, and replace `library` in one step.

    machine: architecture the compiler makes code for, else this machine's. is_strict: the project's
    warnings, as errors; not for users, whose compiler may be newer than ours. Raises BuildError.
    """
    compiler = find_compiler()
    isa_flags = ISA_FLAGS.get(machine or platform.machine(), {})
    with tempfile.TemporaryDirectory(prefix="apx-build-") as folder:
        stamp = Path(folder, "stamp.c")
        name = re.sub(r'["\\]', "", _version(compiler))
        stamp.write_text(_STAMP_SOURCE.format(digest=sources_digest(sources), compiler=name))
        flags = (*FLAGS, *(WARNINGS if is_strict else ()))
        units: list[Unit] = [*_units(sources, isa_flags), (stamp, ())]
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            compile_unit = partial(_compile, compiler, flags, Path(folder))
            names = [str(path) for path in pool.map(compile_unit, units)]
        _link(compiler, names, library)


def _units(sources: Path, isa_flags: dict[str, tuple[str, ...]]) -> Iterator[Unit]:
    """Each source this architecture can use, with the flags it needs beyond the common ones."""
    others = {suffix for known in ISA_FLAGS.values() for suffix in known} - isa_flags.keys()
    for path in sorted(sources.glob("*.c")):
        suffix = path.stem[path.stem.rfind("_") :]
        if suffix not in others:
            yield path, isa_flags.get(suffix, ())


def _compile(compiler: list[str], flags: tuple[str, ...], folder: Path, unit: Unit) -> Path:
    source, isa = unit
    target = folder / f"{source.stem}.o"
    _run([*compiler, *flags, *isa, "-c", str(source), "-o", str(target)], source.name)
    return target


def _link(compiler: list[str], objects: list[str], library: Path) -> None:
    """Link next to the target, then rename: a process that has the old file mapped keeps it."""
    library.parent.mkdir(parents=True, exist_ok=True)
    partial = library.with_name(f".{library.name}.{os.getpid()}")
    command = [*compiler, *LINK_FLAGS, *objects, "-o", str(partial), *LINK_LIBRARIES]
    try:
        _run(command, library.name)
        partial.replace(library)
    finally:
        partial.unlink(missing_ok=True)


def _version(compiler: list[str]) -> str:
    lines = _run([*compiler, "--version"], "--version").splitlines()
    return lines[0] if lines else compiler[0]


def _run(command: list[str], what: str) -> str:
    """Standard output of the command; a compiler that fails is quoted from its first lines on."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        said = done.stderr.splitlines()[:MAX_SHOWN_LINES]
        raise BuildError(
            "\n".join([f"{command[0]} failed on {what} (exit {done.returncode})", *said])
        )
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Build and say so on standard error; 0, or 3 when there is no compiler or it fails."""
    parser = argparse.ArgumentParser(prog="apexbench.cpu_kernels.build", description=__doc__)
    parser.add_argument("--force", action="store_true", help="also when the library is current")
    parser.add_argument("--strict", action="store_true", help="warnings of the project, as errors")
    parser.add_argument("--out", type=Path, default=LIBRARY, metavar="FILE", help="default: here")
    chosen = parser.parse_args(arguments)
    if not chosen.force and is_current(chosen.out):
        sys.stderr.write(f"{chosen.out} is current\n")
        return 0
    sys.stderr.write(f"compiling {SOURCES} into {chosen.out}\n")
    try:
        build(chosen.out, is_strict=chosen.strict)
    except BuildError as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
