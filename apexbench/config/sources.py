"""Merging the sources of a configuration: command line, environment, file, preset, defaults."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from apexbench.config.backends import backend_values
from apexbench.config.keys import DEFAULT, KEYS, SLO_TARGETS, TABLES, CompareConfig, split
from apexbench.errors import InputError, UsageError, unknown_name

FILE_NAME = "apexbench.toml"
ENV_PREFIX = "APEXBENCH_"
CONFIG_VARIABLE = "APEXBENCH_CONFIG"
# Variables of this prefix that are not keys of the configuration.
OTHER_VARIABLES = (
    CONFIG_VARIABLE,
    "APEXBENCH_CPU_KERNELS",
    "APEXBENCH_DEBUG",
    "APEXBENCH_GEMM_TABLES",
    "APEXBENCH_ISA",
    "APEXBENCH_TRACES",
)

PresetValues = Callable[[str], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Values of one source, tables flattened to "slo.ttft"; `origin` formats where a key stood."""

    origin: str
    values: Mapping[str, object]
    problems: tuple[str, ...] = ()

    def origin_of(self, key: str) -> str:
        head = key.partition(".")[0]
        flag = "set" if head == "thresholds" else head.replace("_", "-")
        return self.origin.format(key=key, flag=flag, variable=ENV_PREFIX + head.upper())


def locate(option: Path | None, env: Mapping[str, str], directory: Path) -> Path | None:
    """The file to read: --config, else APEXBENCH_CONFIG, else apexbench.toml if it exists."""
    named = option or env.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    usual = directory / FILE_NAME
    return usual if usual.is_file() else None


def resolve(
    cli: Mapping[str, object],
    env: Mapping[str, str],
    file: Path | None,
    preset: PresetValues | None = None,
) -> CompareConfig:
    """Merge all sources; UsageError lists everything that is wrong, one sentence per line.

    `cli` maps keys to values as typed; None, False and empty mean "not given". `preset` gives the
    values that come with a workload. InputError: `file` cannot be read as TOML.
    """
    layers = [_file_layer(file)] if file else []
    layers += [_env_layer(env), _layer("--{flag}", {k: v for k, v in cli.items() if _is_given(v)})]
    workload, backend = (_topmost(layers, key) for key in ("workload", "backend"))
    if preset is not None and isinstance(workload, str):
        layers.insert(0, _layer(f"preset {workload}", preset(workload)))
    if values := backend_values(backend):
        layers.insert(0, _layer(f"{DEFAULT} of backend {backend}", values))
    problems = [problem for layer in layers for problem in layer.problems]
    return _validate(layers, problems)


def _topmost(layers: list[_Layer], key: str) -> object:
    return next((layer.values[key] for layer in reversed(layers) if key in layer.values), None)


def _is_given(value: object) -> bool:
    return value is not None and value is not False and value not in ("", (), [], {})


def _file_layer(path: Path) -> _Layer:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read config file '{path}': {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"config file '{path}' is not valid TOML: {error}") from error
    name = path.name.replace("{", "{{").replace("}", "}}")
    return _layer(f"{{key}} in {name}", values, kind=f"key in {path.name}")


def _env_layer(env: Mapping[str, str]) -> _Layer:
    """Variables set to nothing count as not set."""
    variables = {ENV_PREFIX + key.upper(): key for key in KEYS}
    known = (*variables, *OTHER_VARIABLES)
    ours = {name: value for name, value in env.items() if name.startswith(ENV_PREFIX) and value}
    unknown = sorted(ours.keys() - set(known))
    layer = _layer("{variable}", {variables[n]: v for n, v in ours.items() if n in variables})
    problems = (str(unknown_name("environment variable", name, known)) for name in unknown)
    return _Layer(layer.origin, layer.values, (*layer.problems, *problems))


def _layer(origin: str, raw: Mapping[str, object], kind: str = "configuration key") -> _Layer:
    values: dict[str, object] = {}
    problems: list[str] = []
    where = _Layer(origin, {}).origin_of
    for key, value in raw.items():
        if key not in KEYS:
            problems.append(str(unknown_name(kind, key, KEYS)))
            continue
        try:
            values |= _flatten(key, value)
        except ValueError:
            problems.append(f"{where(key)} must be name=value, got {value!r}")
    targets = {f"slo.{target}" for target in SLO_TARGETS}
    for key in [k for k in values if k.startswith("slo.") and k not in targets]:
        problems.append(str(unknown_name("slo target", key.removeprefix("slo."), SLO_TARGETS)))
        del values[key]
    return _Layer(origin, values, tuple(problems))


def _flatten(key: str, value: object) -> dict[str, object]:
    """{"slo": {"ttft": 2}} -> {"slo.ttft": 2}; ValueError where a table is not name=value."""
    if key not in TABLES:
        return {key: value}
    pairs = value.items() if isinstance(value, Mapping) else _pairs(value)
    return {f"{key}.{name}": item for name, item in pairs}


def _pairs(value: object) -> Iterator[tuple[str, str]]:
    """("ttft", "2") of "ttft=2", of several joined by commas, or of a list of such."""
    parts = split(value)
    assert isinstance(parts, tuple)
    for part in parts:
        name, sign, text = part.partition("=")
        if not (name.strip() and sign and text.strip()):
            raise ValueError(part)
        yield name.strip(), text.strip()


def _validate(layers: list[_Layer], problems: list[str]) -> CompareConfig:
    values: dict[str, Any] = {table: {} for table in TABLES}
    provenance = dict.fromkeys((key for key in KEYS if key not in TABLES), DEFAULT)
    for layer in layers:
        for key, value in layer.values.items():
            table, _, name = key.partition(".")
            (values[table] if name else values)[name or table] = value
            provenance[key] = layer.origin_of(key)
    try:
        config = CompareConfig.model_validate(values | {"provenance": provenance})
    except ValidationError as error:
        problems += dict.fromkeys(_sentence(item, provenance) for item in error.errors())
        raise UsageError("\n".join(problems)) from error
    if problems:
        raise UsageError("\n".join(problems))
    return config


def _sentence(error: Mapping[str, Any], provenance: Mapping[str, str]) -> str:
    head, *rest = error["loc"]
    key = f"{head}.{rest[0]}" if head in TABLES else str(head)
    fields = CompareConfig.model_fields
    field = next(f for name, f in fields.items() if head in (f.alias, name))
    return f"{provenance[key]} must be {field.description}, got {error['input']!r}"
