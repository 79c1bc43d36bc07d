"""Which commit froze the inputs of the page, and what has changed since; changes nothing itself."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import apexbench
from apexbench.errors import InputError
from apexbench.paper.plan import Plan, parse

# Keys that may differ between two versions of the config without it being another one.
SIZES = frozenset({"seeds", "requests", "draws"})
_GIT_TIMEOUT_S = 10
_PACKAGE = Path(apexbench.__file__).parent


@dataclass(frozen=True, slots=True)
class Freeze:
    """`commit` and `date` of the oldest version that equals today's but for run sizes.

    None without git, or while today's version is not committed. `changed` maps files whose bytes
    are no longer the frozen ones to their SHA-256 now; None where the file is gone.
    """

    commit: str | None
    date: str | None
    num_files: int
    changed: Mapping[str, str | None]


def examine(plan: Plan) -> Freeze:
    """Compare every frozen hash with the file as it is installed, and ask git who froze them."""
    frozen = plan.file.frozen
    now = {name: digest(name) for name in frozen}
    changed = {name: value for name, value in now.items() if value != frozen[name]}
    commit, date = _frozen_by(plan) or (None, None)
    return Freeze(commit, date, len(frozen), changed)


def digest(name: str) -> str | None:
    """SHA-256 of a file of the package, named as in the repository; None if there is none."""
    try:
        return sha256((_PACKAGE / name).read_bytes()).hexdigest()
    except OSError:
        return None


def _frozen_by(plan: Plan) -> tuple[str, str] | None:
    """Hash and date of the commit, walking back from today's version while they agree."""
    today = _without_sizes(parse(plan.data, str(plan.path)))
    found = None
    for commit, date in _commits(plan.path):
        if _at(plan.path, commit) != today:
            break
        found = commit, date
    return found


def _commits(path: Path) -> Iterator[tuple[str, str]]:
    """Commits that touched the file, newest first."""
    for line in (_git(path, "log", "--format=%H %cs", "--", path.name) or "").splitlines():
        commit, _, date = line.partition(" ")
        yield commit, date


def _at(path: Path, commit: str) -> Any:
    text = _git(path, "show", f"{commit}:./{path.name}")
    try:
        return None if text is None else _without_sizes(parse(text.encode(), commit))
    except InputError:
        return None


def _without_sizes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_sizes(item) for key, item in value.items() if key not in SIZES}
    if isinstance(value, list):
        return [_without_sizes(item) for item in value]
    return value


def _git(path: Path, *arguments: str) -> str | None:
    """Output of git in the file's directory; None outside a repository or without git."""
    command = ["git", "-C", str(path.absolute().parent), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=_GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
