"""The TOML form of device profiles: reading, variants, checks. Knows no particular device."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, cast, get_args

from apexbench.errors import InputError, unknown_name
from apexbench.result import Kind

KINDS: tuple[str, ...] = get_args(Kind)
_CONSTANT_KEYS = ("value", "unit", "kind", "sigma", "source")
_FILE_KEYS = ("role", "constants", "variants")
# What `apexbench profile` adds to the file of a host; the last two are for people and other tools.
_MEASURED_KEYS = ("attention", "circumstances", "measurements")


@dataclass(frozen=True, slots=True)
class Constant:
    """A number with its circumstances; `sigma` is its relative uncertainty (0.1 = 10 %)."""

    value: float
    unit: str
    source: str
    kind: Kind
    sigma: float


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit in which a profile states a constant, and the values it may take."""

    name: str
    is_zero_allowed: bool = False
    most: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class ProfileTable:
    """The raw keys of one profile, variants resolved; `path` is what errors name.

    `attention` is what a measured host says of its CPU kernels, None for all other profiles.
    """

    path: Path
    name: str
    plain: Mapping[str, object]
    constants: Mapping[str, object]
    attention: object = None

    def error(self, key: str, what: str) -> InputError:
        return InputError(f"profile '{self.path}', {self.name}: key '{key}' {what}")

    def values(self, hints: Mapping[str, Any], required: set[str]) -> dict[str, Any]:
        """Checked values for the fields `hints` describes; the first wrong key is an InputError."""
        found = {"name": self.name, **self.plain, **self.constants}
        for key in found:
            if key not in hints:
                near = unknown_name("key", key, hints)
                raise InputError(f"profile '{self.path}', {self.name}: {near}")
        for key in sorted(required - set(found)):
            raise self.error(key, "is missing")
        return {key: self._value(key, value, hints[key]) for key, value in found.items()}

    def _value(self, key: str, value: object, hint: Any) -> object:
        unit = next((part for part in get_args(hint) if isinstance(part, Unit)), None)
        if unit is not None:
            return self._constant(key, value, unit)
        if not isinstance(value, hint):
            raise self.error(key, f"is {value!r}; expected a {hint.__name__}")
        return value

    def _constant(self, key: str, value: object, unit: Unit) -> Constant:
        if not isinstance(value, Mapping) or sorted(value) != sorted(_CONSTANT_KEYS):
            raise self.error(key, f"must be a table with exactly {', '.join(_CONSTANT_KEYS)}")
        if value["unit"] != unit.name:
            raise self.error(key, f"is in {value['unit']!r}; expected {unit.name!r}")
        if value["kind"] not in KINDS:
            raise self.error(key, f"has kind {value['kind']!r}; expected one of {', '.join(KINDS)}")
        if not isinstance(value["source"], str) or not value["source"].strip():
            raise self.error(key, "has no source; say where the value comes from")
        number = self._number(key, "value", value["value"])
        if (number == 0 and not unit.is_zero_allowed) or number > unit.most:
            raise self.error(key, f"has value {number:g}; expected one {_range(unit)}")
        sigma = self._number(key, "sigma", value["sigma"])
        return Constant(number, unit.name, value["source"], cast("Kind", value["kind"]), sigma)

    def _number(self, key: str, part: str, value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(cast("float", value)) or cast("float", value) < 0:
            raise self.error(key, f"has {part} {value!r}; expected a finite number, not negative")
        return float(cast("float", value))


def _range(unit: Unit) -> str:
    top = "" if math.isinf(unit.most) else f" and at most {unit.most:g}"
    return ("of zero or more" if unit.is_zero_allowed else "above zero") + top


def read_tables(role: str, file: Traversable, path: Path) -> dict[str, ProfileTable]:
    """All profiles in a file, by name: the base, if it has a name, then the variants."""
    data = _parse(file, path)
    if data.get("role") != role:
        raise InputError(f"profile '{path}' has role {data.get('role')!r}; expected {role!r}")
    known = (*_FILE_KEYS, *_MEASURED_KEYS) if role == "host" else _FILE_KEYS
    plain = {key: value for key, value in data.items() if key not in known}
    constants = _table(data, "constants", path)
    attention = data.get("attention") if role == "host" else None
    tables = {}
    if "name" in plain:
        name = str(plain.pop("name"))
        tables[name] = ProfileTable(path, name, plain, constants, attention)
    for name, variant in _table(data, "variants", path).items():
        own = _table({name: variant}, name, path)
        own_plain = {key: value for key, value in own.items() if key != "constants"}
        merged = {**constants, **_table(own, "constants", path)}
        tables[name] = ProfileTable(path, name, {**plain, **own_plain}, merged, attention)
    return tables


def user_table(role: str, name_or_path: str) -> ProfileTable:
    """One profile from a file of the user's: "my.toml", or "my.toml:variant"."""
    path_text, _, variant = name_or_path.partition(".toml")
    path = Path(path_text + ".toml")
    tables = read_tables(role, path, path)
    name = variant.removeprefix(":")
    if not name and tables:
        return next(iter(tables.values()))
    if name not in tables:
        known = ", ".join(tables) or "none"
        wanted = f"{role} '{name}'" if name else f"{role}"
        raise InputError(f"profile '{path}' defines no {wanted}; it defines: {known}")
    return tables[name]


def _parse(file: Traversable, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read profile '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"profile '{path}' is not UTF-8 text; expected TOML") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"profile '{path}' is not valid TOML: {error}") from error


def _table(data: Mapping[str, object], key: str, path: Path) -> dict[str, object]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise InputError(f"profile '{path}': '{key}' is {value!r}; expected a table")
    return value
