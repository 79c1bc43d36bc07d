"""The keys of a configuration with their types and defaults; where values come from is not here."""

import contextlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from apexbench.config.backends import REAL_TIME
from apexbench.errors import UsageError

DEFAULT = "default"  # how the origin of a value begins that nobody asked for
MODELLED_WEIGHTS = "fp16"
# Keys that hold name=value pairs; each pair is merged on its own.
TABLES = ("slo", "thresholds")
SLO_TARGETS = ("ttft", "tpot", "e2e")
DEFAULT_POLICIES = (
    "gpu-only", "gpu-only+int4", "gpu-only+chunk256", "fastdecode", "neo", "apex",
    "static:deferred", "planner",
)  # fmt: skip
# Below, near, at and above gpu-only's saturation, and everything at once.
DEFAULT_RATES = ("0.5x", "0.8x", "1x", "1.2x", "inf")


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


def split(value: object) -> object:
    """One text or several, each split at commas."""
    items = value if isinstance(value, list | tuple) else [value]
    parts = (str(_not_bool(item)).split(",") for item in items)
    return tuple(part.strip() for group in parts for part in group if part.strip())


def _listed(value: object) -> object:
    """One text or several; commas belong to the text."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(str(_not_bool(item)).strip() for item in items)


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
    tuple[Item, ...], BeforeValidator(split), Field(min_length=1), AfterValidator(_distinct)
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
    backend: Literal["sim", "emulated", "cpu", "cuda"] = _key("sim", "sim, emulated or cpu")
    gpu_kv_tokens: Count | None = _key(None, "a whole number of at least 1")
    cpu_kv_tokens: Count | None = _key(None, "a whole number of at least 1")
    kv_dtype: Literal["fp32", "fp16", "bf16"] | None = _key(None, "fp16, bf16 or fp32")
    cpu_kv_dtype: Literal["fp32", "fp16", "bf16", "int8"] | None = _key(
        None, "fp16, bf16, fp32 or int8"
    )
    gpu_memory_utilization: Fraction = _key(0.95, "above 0 and at most 1")
    max_context: Annotated[str, BeforeValidator(_context_limit)] | None = _key(
        None, "a number of tokens, or one with what to do beyond it: 4096:drop, 4096:clip"
    )
    cpu_kernel: Literal["apexbench", "paper", "ispc", "measured"] | None = _key(
        None, "apexbench, paper, ispc or measured"
    )
    cpu_threads: Count | None = _key(None, "a whole number of at least 1")
    gpu_threads: Count | None = _key(None, "a whole number of at least 1")
    dtype: Literal["fp32", "bf16", "fp16"] | None = _key(None, "fp32, bf16 or fp16")
    draws: Annotated[int, BeforeValidator(_not_bool), Field(ge=0)] = _key(
        0, "a whole number of at least 0 (how many draws of the device constants)"
    )
    tornado: bool = _key(False, "true or false")
    sweep: Annotated[tuple[Name, ...], BeforeValidator(_listed)] = _key(
        (), "one or more of NAME=VALUE,VALUE,... such as gpu_kv_tokens=864,2000"
    )
    weights: Literal["auto", "dummy", "fp16", "int8", "int4"] = _key(
        "auto", "fp16, int8 or int4, or for a real model auto or dummy"
    )
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

    @property
    def is_real_time(self) -> bool:
        """Whether runs take as long as they say."""
        return self.backend in REAL_TIME

    @property
    def weight_dtype(self) -> str:
        """Weights of a modelled GPU; UsageError for those that only a real model can have."""
        if self.weights == "dummy":
            raise UsageError(
                "--weights dummy is for a real model (--backend cpu); a modelled one has fp16,"
                " int8 or int4"
            )
        return MODELLED_WEIGHTS if self.weights == "auto" else self.weights

    def is_given(self, key: str) -> bool:
        """Whether somebody asked for it: not a default and not what comes with a preset."""
        origin = self.provenance.get(key, DEFAULT)
        return not origin.startswith((DEFAULT, "preset "))


KEYS = tuple(
    field.alias or name
    for name, field in CompareConfig.model_fields.items()
    if name != "provenance"
)
