"""Where a result was made: machine, versions, commit. Everything that may differ between runs."""

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import apexbench
from apexbench.result import Environment

_PACKAGES = ("numpy", "pandas", "plotly", "pyarrow", "pydantic", "rich", "scipy", "typer")
_ENGINE_PACKAGES = ("safetensors", "tokenizers", "torch")


def environment(
    *,
    wall_s: float,
    simulated_s: float,
    cpu_kernels: str | None = None,
    threads: Mapping[str, int] | None = None,
) -> Environment:
    """The environment of this process; kernels and threads by lane of runs in real time.

    SOURCE_DATE_EPOCH asks for reproducible bytes: it is the date then, and the wall time is 0.
    """
    epoch = _epoch()
    packages = _PACKAGES if cpu_kernels is None else (*_PACKAGES, *_ENGINE_PACKAGES)
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if commit else None
    return Environment(
        created_at=_created_at(epoch),
        python=platform.python_version(),
        platform=platform.platform(),
        cpu_model=_cpu_model(),
        logical_cpus=os.cpu_count() or 1,
        packages={name: _version(name) for name in packages},
        cpu_kernels=cpu_kernels,
        threads=dict(threads or {}),
        git_commit=commit,
        is_git_dirty=None if changes is None else bool(changes),
        wall_s=round(wall_s, 3) if epoch is None else 0.0,
        simulated_s=round(simulated_s, 3),
    )


def _epoch() -> int | None:
    """Seconds since 1970 that the user wants to see as now."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return int(text) if text.isdecimal() else None


def _created_at(epoch: int | None) -> str:
    moment = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
    return moment.isoformat(timespec="seconds")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str | None:
    """Output of git in the source tree; None for an installed package or without git."""
    root = Path(apexbench.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
