"""The whole result document: its schema, its text, and reading it back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from apexbench.errors import InputError
from apexbench.result.base import Document
from apexbench.result.findings import Comparison, Sensitivity, Sweep
from apexbench.result.runs import Run
from apexbench.result.settings import Setting, Variant

SCHEMA_VERSION = 1


class Environment(Document):
    """Where the tool ran. Outside the byte-identity promise of equal seeds."""

    created_at: str
    python: str
    platform: str
    cpu_model: str
    logical_cpus: int
    packages: dict[str, str]
    cpu_kernels: str | None = None  # that ran: their ISA level and compiler
    threads: dict[str, int] = Field(default_factory=dict)  # by lane, of runs in real time
    git_commit: str | None = None
    is_git_dirty: bool | None = None
    wall_s: float
    simulated_s: float  # virtual seconds simulated in total


class Result(Document):
    """The whole document."""

    schema_version: Literal[1] = 1
    tool_version: str
    kind: Literal["compare"]
    is_partial: bool = False  # interrupted, or some runs failed: holds what was done
    is_interrupted: bool = False
    config: dict[str, Any]  # resolved; `command` reproduces it
    command: str
    environment: Environment
    warnings: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    variants: tuple[Variant, ...] = ()
    runs: tuple[Run, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    sensitivities: tuple[Sensitivity, ...] = ()


def json_schema() -> str:
    """The JSON Schema of the result document."""
    return json.dumps(Result.model_json_schema(), indent=2, sort_keys=True) + "\n"


def to_json(result: Result) -> str:
    """Canonical text: equal documents give equal bytes."""
    return json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Result:
    """Parse and validate a result file; InputError says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read result file '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not a result file: it is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Result:
    """Validate the text of a result document; `name` is used in the error sentence."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"'{name}' is not JSON (line {error.lineno}: {error.msg})") from error
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"'{name}' has schema_version {version!r}; this apexbench reads {SCHEMA_VERSION}"
        )
    try:
        return Result.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"'{name}' is not a valid result: {where}: {first['msg']}") from error
