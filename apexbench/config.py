"""What `compare` was asked to do, merged from command line, environment, file and preset.

Precedence: command line > APEXBENCH_* > apexbench.toml > workload preset > default. Whether a GPU,
host, model, workload, policy or threshold of that name exists is not decided here.
"""

import contextlib
import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from apexbench.errors import InputError, UsageError, unknown_name

FILE_NAME = "apexbench.toml"
ENV_PREFIX = "APEXBENCH_"
CONFIG_VARIABLE = "APEXBENCH_CONFIG"
# Variables of this prefix that are not keys of the configuration.
OTHER_VARIABLES = (CONFIG_VARIABLE, "APEXBENCH_DEBUG", "APEXBENCH_ISA", "APEXBENCH_TRACES")
# Keys that hold name=value pairs; each pair is merged on its own.
TABLES = ("slo", "thresholds")
SLO_TARGETS = ("ttft", "tpot", "e2e")
DEFAULT_POLICIES = (
    "gpu-only", "gpu-only+int4", "neo", "apex", "static:deferred", "static:two_batch",
)  # fmt: skip
# Below, near, at and above gpu-only's saturation, and everything at once.
DEFAULT_RATES = ("0.5x", "0.8x", "1x", "1.2x", "inf")

PresetValues = Callable[[str], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Rate:
    """An arrival rate: `rps` requests/s, or `multiple` of gpu-only's saturation.

    Both are None for "inf": all requests wait at t = 0.
    """

    label: str
    rps: float | None = None
    multiple: float | None = None


def parse_rate(text: str) -> Rate:
    """The rate that "2.5", "0.8x" or "inf" stands for; ValueError where it is none of them."""
    if text == "inf":
        return Rate(text)
    value = float(text.removesuffix("x"))
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    label = repr(value).removesuffix(".0")
    if text.endswith("x"):
        return Rate(f"{label}x", multiple=value)
    return Rate(label, rps=value)


def _not_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")  # noqa: TRY004 - pydantic collects ValueError
    return value


def _split(value: object) -> object:
    """One text or several, each split at commas."""
    items = value if isinstance(value, list | tuple) else [value]
    parts = (str(_not_bool(item)).split(",") for item in items)
    return tuple(part.strip() for group in parts for part in group if part.strip())


def _distinct(items: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))


def _context_limit(value: object) -> str:
    match = re.fullmatch(r"([1-9]\d*)(?::(drop|clip))?", str(value))
    if match is None:
        raise ValueError(value)
    return f"{match[1]}:{match[2] or 'drop'}"


def _threshold(value: object) -> object:
    """Text that reads as a number becomes one; other text (a mode) stays."""
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return _not_bool(value)


def _number(text: str) -> int | float | str:
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=1)]
Seconds = Annotated[float, BeforeValidator(_not_bool), Field(gt=0)]
Fraction = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
RateLabel = Annotated[str, BeforeValidator(lambda text: parse_rate(text).label)]
Item = TypeVar("Item")
# One or more of comma-separated or repeated values; the first of equal ones counts.
Distinct = Annotated[
    tuple[Item, ...], BeforeValidator(_split), Field(min_length=1), AfterValidator(_distinct)
]


def _key(default: Any, expected: str, alias: str | None = None) -> Any:
    """A field; `expected` completes the error sentence "... must be"."""
    return Field(default, description=expected, alias=alias)


class CompareConfig(BaseModel):
    """The resolved configuration; None means that `compare` chooses.

    `provenance` says for every key (tables: "slo.ttft") where its value came from, in the words
    a user would use: "--seeds", "APEXBENCH_SEEDS", "seeds in apexbench.toml", "preset osc",
    "default".
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )

    gpu: Name | None = _key(None, "the name of a GPU (see: apexbench list gpus)")
    host: Name | None = _key(None, "the name of a host (see: apexbench list hosts)")
    model: Name | None = _key(None, "the name of a model (see: apexbench list models)")
    workload: Name | None = _key(None, "the name of a workload (see: apexbench list workloads)")
    policies: Distinct[Name] = _key(
        DEFAULT_POLICIES, "one or more policies (see: apexbench list policies)"
    )
    rate: Distinct[RateLabel] = _key(
        DEFAULT_RATES, "positive requests per second, 'inf', or multiples such as '0.8x'"
    )
    requests: Count | None = _key(None, "a whole number of at least 1")
    duration: Seconds | None = _key(None, "a positive number of seconds")
    seeds: Count = _key(3, "a whole number of at least 1 (how many seeds)")
    seed: Annotated[int, BeforeValidator(_not_bool), Field(ge=0)] = _key(
        0, "a whole number of at least 0 (the first seed)"
    )
    slo: dict[str, Seconds] = _key({}, "a positive number of seconds")
    backend: Literal["sim"] = _key("sim", "'sim', the only backend of this version")
    gpu_kv_tokens: Count | None = _key(None, "a whole number of at least 1")
    gpu_memory_utilization: Fraction = _key(0.95, "above 0 and at most 1")
    max_context: Annotated[str, BeforeValidator(_context_limit)] | None = _key(
        None, "a number of tokens, or one with what to do beyond it: 4096:drop, 4096:clip"
    )
    cpu_kernel: Literal["apexbench", "paper", "ispc"] = _key("paper", "apexbench, paper or ispc")
    cpu_threads: Count | None = _key(None, "a whole number of at least 1")
    weights: Literal["fp16", "int8", "int4"] = _key("fp16", "fp16, int8 or int4")
    jobs: Count | None = _key(None, "a whole number of at least 1")
    thresholds: dict[str, Annotated[int | float | str, BeforeValidator(_threshold)]] = _key(
        {}, "a finite number or a word"
    )
    out: Path = _key(Path("out"), "a directory")
    json_path: Name | None = _key(None, "a path, or '-' for standard output", alias="json")
    html_path: Name | None = _key(None, "a path", alias="html")
    quiet: bool = _key(False, "true or false")
    provenance: dict[str, str] = Field(default={}, exclude=True)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates to run, in the order given."""
        return tuple(parse_rate(label) for label in self.rate)


KEYS = tuple(
    field.alias or name
    for name, field in CompareConfig.model_fields.items()
    if name != "provenance"
)


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
    workload = next(
        (x.values["workload"] for x in reversed(layers) if "workload" in x.values), None
    )
    if preset is not None and isinstance(workload, str):
        layers.insert(0, _layer(f"preset {workload}", preset(workload)))
    problems = [problem for layer in layers for problem in layer.problems]
    return _validate(layers, problems)


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
    parts = _split(value)
    assert isinstance(parts, tuple)
    for part in parts:
        name, sign, text = part.partition("=")
        if not (name.strip() and sign and text.strip()):
            raise ValueError(part)
        yield name.strip(), text.strip()


def _validate(layers: list[_Layer], problems: list[str]) -> CompareConfig:
    values: dict[str, Any] = {table: {} for table in TABLES}
    provenance = dict.fromkeys((key for key in KEYS if key not in TABLES), "default")
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
