"""A configuration as it stands in the result, and as the command that asks for the same numbers."""

import shlex
from typing import Any

from apexbench.config import TABLES, CompareConfig

# What only says where things go or how fast: the numbers do not depend on it.
_OUTSIDE_THE_RESULT = ("out", "json", "html", "quiet", "jobs")


def config_document(config: CompareConfig) -> dict[str, Any]:
    """The resolved configuration with the origin of every value, as it stands in the result."""
    values = config.model_dump(mode="json", by_alias=True)
    kept = {key: value for key, value in values.items() if key not in _OUTSIDE_THE_RESULT}
    origins = {
        key: origin
        for key, origin in config.provenance.items()
        if key.partition(".")[0] not in _OUTSIDE_THE_RESULT
    }
    return kept | {"provenance": origins}


def config_from(document: dict[str, Any]) -> CompareConfig:
    """The configuration of `config_document`, where things go at its defaults."""
    return CompareConfig.model_validate(document)


def command(config: CompareConfig) -> str:
    """A command line that asks for the same numbers, whatever file or variable they came from."""
    words = ["apexbench", "compare"]
    defaults = CompareConfig().model_dump(mode="json", by_alias=True)
    values = config.model_dump(mode="json", by_alias=True)
    for key, value in values.items():
        if key in _OUTSIDE_THE_RESULT or value == defaults[key]:
            continue
        words += _flag(config, key, value)
    return shlex.join(words)


def _flag(config: CompareConfig, key: str, value: Any) -> list[str]:
    flag = "--set" if key == "thresholds" else f"--{key.replace('_', '-')}"
    if key in TABLES:
        pairs = [f"{n}={v}" for n, v in value.items() if not _is_preset(config, f"{key}.{n}")]
        return [word for pair in pairs for word in (flag, pair)]
    if value is True:
        return [flag]
    if key == "sweep":  # commas belong to each of them
        return [word for text in value for word in (flag, text)]
    if isinstance(value, list):
        return [flag, ",".join(map(str, value))]
    return [flag, str(value)]


def _is_preset(config: CompareConfig, key: str) -> bool:
    """What comes with the workload need not be typed."""
    return config.provenance.get(key, "").startswith("preset ")
