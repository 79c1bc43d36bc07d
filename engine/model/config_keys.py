"""Typed reads of a parsed config.json; every complaint names file and key. Fixes nothing."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from apexbench.errors import InputError


@dataclass(frozen=True, slots=True)
class ConfigKeys:
    """One JSON object of a config file: absent and null mean the same, the default."""

    path: Path
    data: Mapping[str, object]

    def error(self, what: str) -> InputError:
        """An InputError that begins with the file's name."""
        return InputError(f"model config '{self.path}': {what}")

    def integer(self, key: str, default: int) -> int:
        """An integer of at least 0."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"key '{key}' is {value!r}; expected an integer of at least 0")
        return value

    def positive(self, key: str, default: float | None = None) -> float:
        """A finite number above 0; without a default the key must be there."""
        value = self.data.get(key)
        if value is None and default is not None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and 0 < value <= sys.float_info.max:  # type: ignore[operator]
            return float(value)  # type: ignore[arg-type]
        raise self.error(f"key '{key}' is {value!r}; expected a positive number")

    def optional(self, key: str) -> float | None:
        """A finite number above 0, or None where the key is absent, null or 0."""
        return self.positive(key) if self.data.get(key) else None

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(f"key '{key}' is {value!r}; expected true or false")
        return value

    def inner(self, key: str) -> "ConfigKeys | None":
        """The object under a key, or None where there is none."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(f"key '{key}' is {value!r}; expected an object")
        return ConfigKeys(self.path, value)

    def names(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty where the key is absent."""
        value = self.data.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.error(f"key '{key}' is {value!r}; expected a list of names")
        return tuple(value)

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One token id or a list of them; empty where the key is absent."""
        value = self.data.get(key)
        if value is None:
            return ()
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, int) and not isinstance(one, bool) for one in values):
            raise self.error(f"key '{key}' is {value!r}; expected token ids")
        return tuple(values)


def read_keys(path: Path) -> ConfigKeys:
    """The keys of a JSON file; InputError where it cannot be read or is no JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read model config '{path}': {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"model config '{path}' is not JSON; expected an object") from error
    if not isinstance(data, Mapping):
        raise InputError(f"model config '{path}' is not a JSON object; download it again")
    return ConfigKeys(path, data)
