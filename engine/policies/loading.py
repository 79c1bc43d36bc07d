"""Policies of users, by import path `mypkg.mymodule:MyPolicy`; knows no registered one."""

import hashlib
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from apexbench.engine.deployment import deploy
from apexbench.engine.policies.base import Policy, PolicyContext
from apexbench.engine.policies.entry import (
    COMMON,
    SCHEDULED_DEFERRING,
    SCHEDULED_HYBRID,
    PolicyEntry,
)
from apexbench.engine.policies.laws import reason
from apexbench.engine.thresholds import RANGES, Thresholds
from apexbench.errors import ApexbenchError, InputError, PolicyError, UsageError, unknown_name

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_SHAPE = "a policy is a class with name, uses_cpu and choose(work), made from a PolicyContext"


def is_import_path(name: str) -> bool:
    """True for `module:Class`, whether or not it exists."""
    return _IMPORT_PATH.fullmatch(name) is not None


@cache
def load_policy(path: str, reserved: frozenset[str]) -> PolicyEntry:
    """The policy at an import path, found from the current directory too; its entry's name is the
    path. `reserved` are names of registered policies, which its own `name` must not repeat.

    UsageError when the module or the class is not there, InputError when it cannot be imported,
    is not a policy or cannot be made.
    """
    found = _find(path)
    _check_members(path, found, reserved)
    entry = PolicyEntry(
        name=path,
        summary=_summary(found),
        strategies=(),
        thresholds=_thresholds(path, found),
        make=ImportedPolicy(path),
        uses_cpu=found.uses_cpu,
        defers=getattr(found, "defers", False),
        keeps_kv_on_host=getattr(found, "keeps_kv_on_host", False),
        source_sha256=_source_sha256(found),
    )
    _try(entry.make)
    return entry


@dataclass(frozen=True, slots=True)
class ImportedPolicy:
    """Makes the policy at an import path, in whatever process: only the path travels."""

    path: str

    def __call__(self, context: PolicyContext) -> Policy:
        """A new policy; PolicyError when its constructor raises."""
        try:
            policy: Policy = _find(self.path)(context)
        except ApexbenchError:
            raise
        except Exception as error:
            raise PolicyError(f"policy {self.path} cannot be made: {_reason(error)}") from error
        return policy


def _find(path: str) -> Any:
    """The class at `path`."""
    module_name, _, name = path.partition(":")
    module = _module(path, module_name)
    found = getattr(module, name, None)
    if found is None:
        raise _no_class(module, name)
    if not isinstance(found, type):
        raise InputError(f"'{path}' is no class but a {type(found).__name__}; {_SHAPE}")
    return found


def _no_class(module: ModuleType, name: str) -> UsageError:
    where = f"module {module.__name__} ({getattr(module, '__file__', None) or 'a folder'})"
    classes = {key: value for key, value in vars(module).items() if isinstance(value, type)}
    policies = [key for key, value in classes.items() if hasattr(value, "choose")]
    if not classes:
        return UsageError(f"{where} has no class '{name}' and no other class")
    return UsageError(f"{where}: {unknown_name('class', name, policies or classes)}")


def _module(path: str, name: str) -> ModuleType:
    """Import `name`; the current directory is searched last, as no policy may hide a package."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for good: a policy may import its neighbours later
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _not_importable(path, error) from error  # the module is there, not what it needs
        raise UsageError(
            f"no module '{name}' for policy '{path}'; searched the current directory {here} and "
            f"{len(sys.path) - 1} more places of Python's path (PYTHONPATH adds to them)"
        ) from None
    except (Exception, SystemExit) as error:
        raise _not_importable(path, error) from error


def _not_importable(path: str, error: BaseException) -> InputError:
    return InputError(f"policy '{path}' cannot be imported: {_reason(error)}")


def _check_members(path: str, found: Any, reserved: frozenset[str]) -> None:
    """Members must be readable before a policy is made: memory is divided by them."""
    missing = [name for name in ("name", "uses_cpu", "choose") if not hasattr(found, name)]
    if missing:
        raise InputError(f"'{path}' is not a policy: it lacks {' and '.join(missing)}; {_SHAPE}")
    if not isinstance(found.name, str) or not found.name:
        raise InputError(f"the name of policy '{path}' must be a text in its class body")
    if found.name in reserved:
        raise InputError(f"policy '{path}' calls itself '{found.name}', a registered policy's name")
    if not callable(found.choose):
        raise InputError(f"'{path}' is not a policy: choose is not a method; {_SHAPE}")
    for name in ("uses_cpu", "defers", "keeps_kv_on_host"):
        if not isinstance(getattr(found, name, False), bool):
            raise InputError(f"{name} of policy '{path}' must be True or False in its class body")
    if not found.uses_cpu and (_is_set(found, "defers") or _is_set(found, "keeps_kv_on_host")):
        raise InputError(f"policy '{path}' works on the host and says uses_cpu = False; set it")


def _is_set(found: Any, name: str) -> bool:
    return getattr(found, name, False) is True


def _thresholds(path: str, found: Any) -> tuple[str, ...]:
    """What the scheduler obeys for this kind of policy, then what the policy says it listens to."""
    scheduled: tuple[str, ...] = SCHEDULED_HYBRID if found.uses_cpu else COMMON
    if _is_set(found, "defers"):
        scheduled = SCHEDULED_DEFERRING
    own = getattr(found, "thresholds", ())
    if isinstance(own, str) or not isinstance(own, tuple | list):
        raise InputError(f"thresholds of policy '{path}' must be a tuple of names")
    for name in own:
        if name not in RANGES:
            raise unknown_name(f"threshold of policy {path}", str(name), RANGES)
    return tuple(dict.fromkeys((*scheduled, *own)))


def _summary(found: Any) -> str:
    """Its `summary`, else the first line of its docstring."""
    text = str(getattr(found, "summary", None) or found.__doc__ or "").strip()
    return text.splitlines()[0] if text else "a policy without a description"


def _source_sha256(found: Any) -> str | None:
    """Of the file that defines the class; None where there is none, as in a notebook."""
    file = getattr(sys.modules.get(found.__module__), "__file__", None)
    return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _try(make: Callable[[PolicyContext], Policy]) -> None:
    """Make it once with an ordinary belief, so that a broken constructor is found before a run."""
    try:
        make(PolicyContext(deploy().costs(), Thresholds()))
    except PolicyError as error:
        raise InputError(str(error)) from error


def _reason(error: BaseException) -> str:
    """What was raised, and the line of the user's file at which it came up, if there is one."""
    place = error.__traceback__
    while place is not None and _is_machinery(place.tb_frame.f_code.co_filename):
        place = place.tb_next
    return reason(error, place)


def _is_machinery(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")
