"""`apexbench doctor`: what works on this machine, one line each with the cure; changes nothing."""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from apexbench.cli.exits import ExitCode
from apexbench.errors import InputError, UsageError
from apexbench.files import ensure_writable_dir

# "broken": the simulator cannot work. "note": something optional is missing or unusual.
State = Literal["ok", "note", "broken"]

SUB_PACKAGES = ("engine", "workloads", "reports", "triton_kernels", "cpu_kernels")
OLDEST_PYTHON = (3, 11)
# Vector extensions that decide how fast attention on the CPU can be, oldest first.
VECTOR_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd")
KIB_PER_GIB = 1 << 20
BYTES_PER_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination; `cure` is what to do, None where nothing needs doing."""

    name: str
    state: State
    detail: str
    cure: str | None = None


def doctor(
    policy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Examine a policy: registered, or MODULE:CLASS."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="With --policy: only what this seed draws.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> int:
    """Say what works here and what does not; exit 1 if the simulator cannot run.

    With --policy: whether a policy keeps the laws that all must keep; exit 1 if it does not.
    """
    if policy is not None:
        from apexbench.cli.doctor_policy import examine

        return examine(policy, seed, as_json=as_json)
    if seed is not None:
        raise UsageError("--seed goes with --policy: it repeats what a policy was tried on")
    findings = [check() for check in CHECKS]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        _print(findings)
    is_broken = any(finding.state == "broken" for finding in findings)
    return ExitCode.GATE_FAILED if is_broken else ExitCode.OK


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        cure = f"; {finding.cure}" if finding.cure else ""
        typer.echo(f"{finding.state:6}  {finding.name:{width}}  {finding.detail}{cure}")


def check_python() -> Finding:
    """Whether the interpreter is recent enough."""
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Finding("python", "broken", version, "install Python 3.11 or later")
    return Finding("python", "ok", f"{version} at {sys.executable}")


def check_packages() -> Finding:
    """Whether every required package is installed in a version that the metadata allows."""
    wrong = list(_unmet_requirements())
    if wrong:
        return Finding(
            "packages", "broken", ", ".join(wrong), "run: pip install -c constraints.txt -e ."
        )
    names = [name for name, _ in _requirements()]
    return Finding("packages", "ok", f"{len(names)} required, all present: {', '.join(names)}")


def _requirements() -> Iterator[tuple[str, str]]:
    """Name and version specifier of every package needed without extras."""
    for line in metadata.requires("apexbench") or ():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)\s*([^;]*)", line.strip())
        if match:  # a line with a marker belongs to an extra
            yield match[1], match[2]


def _unmet_requirements() -> Iterator[str]:
    from packaging.specifiers import SpecifierSet

    for name, specifier in _requirements():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield f"{name} is missing"
            continue
        if not SpecifierSet(specifier).contains(version, prereleases=True):
            yield f"{name} is {version}, needs {specifier}"


def check_layout() -> Finding:
    """Whether the sub-packages, symlinks in a checkout, resolve."""
    missing = [name for name in SUB_PACKAGES if find_spec(f"apexbench.{name}") is None]
    if missing:
        detail = f"apexbench.{', apexbench.'.join(missing)} cannot be imported"
        cure = "restore the symlinks: git config core.symlinks true && git checkout -- apexbench"
        return Finding("layout", "broken", detail, cure)
    return Finding("layout", "ok", "all sub-packages resolve")


def check_directory() -> Finding:
    """Whether results can be written to the working directory."""
    try:
        ensure_writable_dir(Path.cwd())
    except InputError as error:
        return Finding("directory", "note", str(error), "pass --out with a writable directory")
    return Finding("directory", "ok", f"{Path.cwd()} is writable")


def check_cores() -> Finding:
    """Cores this process may use; `compare --jobs` beyond that gains nothing."""
    usable, total = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    quota = _cpu_quota()
    limit = "no cgroup quota" if quota is None else f"cgroup quota {quota:g} cores"
    return Finding("cores", "ok", f"{usable} of {total} usable, {limit}")


def _cpu_quota() -> float | None:
    """The cgroup limit in cores: version 2 keeps both numbers in one file, version 1 in two."""
    fields = _read("/sys/fs/cgroup/cpu.max").split()
    if not fields:
        folder = "/sys/fs/cgroup/cpu/cpu.cfs_"
        fields = [*_read(folder + "quota_us").split(), *_read(folder + "period_us").split()]
    if len(fields) != 2 or not fields[0].isdigit():  # noqa: PLR2004 - quota and period; "max" or -1: none
        return None
    return int(fields[0]) / int(fields[1])


def check_memory() -> Finding:
    """Memory of the machine and the limit of the cgroup."""
    sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE))
    if "MemTotal" not in sizes:
        return Finding("memory", "note", "unknown: /proc/meminfo cannot be read")
    total, free = (int(sizes.get(key, 0)) / KIB_PER_GIB for key in ("MemTotal", "MemAvailable"))
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    bound = f", cgroup limit {int(limit) / BYTES_PER_GIB:.1f} GiB" if limit.isdigit() else ""
    return Finding("memory", "ok", f"{total:.1f} GiB, {free:.1f} GiB available{bound}")


def check_huge_pages() -> Finding:
    """Transparent huge pages; they matter to CPU attention on real hardware alone."""
    chosen = re.search(r"\[(\w+)\]", _read("/sys/kernel/mm/transparent_hugepage/enabled"))
    if chosen is None:
        return Finding("huge pages", "note", "unknown; not needed by the simulator")
    return Finding("huge pages", "ok", f"transparent huge pages: {chosen[1]}")


def check_vector_units() -> Finding:
    """Instruction-set extensions of this CPU."""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    found = [flag for flag in VECTOR_FLAGS if flag in present]
    if not found:
        return Finding("cpu", "note", f"{platform.machine()}, no known vector extension")
    return Finding("cpu", "ok", f"{platform.machine()} with {', '.join(found)}")


def check_compiler() -> Finding:
    """A C compiler; only the CPU kernels are compiled."""
    return _tool("compiler", ("gcc",), "the CPU kernels need one", "apt-get install gcc libc6-dev")


def check_cpu_kernels() -> Finding:
    """Whether attention on the CPU is compiled, and at which ISA level."""
    try:
        from apexbench.engine.executors.cpu_kernels_state import cpu_kernels_state

        state = cpu_kernels_state()
    except ImportError as error:  # a required package is missing: said above
        return Finding("cpu kernels", "note", f"unknown: {error}")
    return Finding("cpu kernels", "ok" if state.is_compiled else "note", state.detail)


def check_quiet() -> Finding:
    """Whether nobody else uses the machine: what is measured on a busy one is void."""
    try:
        from apexbench.engine.executors.profiling.quiet import quietness

        found = quietness()
    except ImportError as error:  # a required package is missing: said above
        return Finding("quiet", "note", f"unknown: {error}")
    if found.reason is not None:
        cure = "the simulator does not mind; before measuring, end other programs or wait a minute"
        return Finding("quiet", "note", f"no, {found.reason}", cure)
    return Finding("quiet", "ok", "quiet enough to be measured")


def check_browser() -> Finding:
    """What the tests of the HTML report drive."""
    tools = ("chromium", "chromedriver")
    cure = "apt-get install chromium chromium-driver"
    return _tool("browser", tools, "only the tests of the HTML report need it", cure)


def _tool(name: str, commands: tuple[str, ...], why: str, cure: str) -> Finding:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        return Finding(name, "note", f"no {' and no '.join(missing)}; {why}", f"to add it: {cure}")
    return Finding(name, "ok", ", ".join(str(shutil.which(command)) for command in commands))


def check_torch() -> Finding:
    """PyTorch; looked up by its metadata, because importing it takes seconds."""
    try:
        return Finding(
            "torch", "ok", f"{metadata.version('torch')} (the simulator does not use it)"
        )
    except metadata.PackageNotFoundError:
        return Finding("torch", "note", "absent; not needed by the simulator")


def check_cuda() -> Finding:
    """An NVIDIA driver with a device."""
    driver = re.search(r"Kernel Module\D*([\d.]+)", _read("/proc/driver/nvidia/version"))
    if driver is None or not Path("/dev/nvidiactl").exists():
        return Finding("cuda", "note", "no CUDA device; not needed by the simulator")
    return Finding("cuda", "ok", f"driver {driver[1]} (the simulator does not use it)")


def _read(path: str) -> str:
    """The text of a file under /proc or /sys, "" where there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_layout,
    check_directory,
    check_cores,
    check_memory,
    check_vector_units,
    check_huge_pages,
    check_compiler,
    check_cpu_kernels,
    check_quiet,
    check_browser,
    check_torch,
    check_cuda,
)
