"""The real engine, loaded late: torch takes seconds to import and need not be installed."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from apexbench.errors import InputError

_PACKAGES = ("torch", "safetensors", "tokenizers")


def require_engine() -> None:
    """InputError where what the real model needs is not installed; imports none of it."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"a real model needs {', '.join(missing)}: pip install 'apexbench[engine]'"
        )


def engine_module(name: str) -> ModuleType:
    """A module of the real engine, imported now."""
    require_engine()
    return import_module(name)
