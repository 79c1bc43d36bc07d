"""TOML as this project's profiles are written: sections, one constant a line. Parses nothing."""

import json
from collections.abc import Iterator, Mapping, Sequence

from apexbench.engine.profile_files import Constant

Table = Mapping[str, object]


def render(sections: Sequence[tuple[str, Table]], heading: Sequence[str] = ()) -> str:
    """The text of a file: `heading` as comments, then tables in order.

    A section is named "" (the top), "name" or "[name]" (one of a list of tables). Values that are
    None are left out: TOML has no word for them.
    """
    return "\n".join([*(f"# {line}".rstrip() for line in heading), *_lines(sections), ""])


def _lines(sections: Sequence[tuple[str, Table]]) -> Iterator[str]:
    for name, table in sections:
        if name:
            yield ""
            yield f"[{name}]"
        for key, value in table.items():
            if value is not None:
                yield f"{_key(key)} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, Constant):
        return _inline(constant_table(value))
    if isinstance(value, Mapping):
        return _inline(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    return _scalar(value)


def constant_table(constant: Constant) -> dict[str, object]:
    """The keys of a constant in the order in which profiles have them."""
    return {
        "value": constant.value,
        "unit": constant.unit,
        "kind": constant.kind,
        "sigma": constant.sigma,
        "source": constant.source,
    }


def _inline(table: Table) -> str:
    pairs = (f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)
    return f"{{ {', '.join(pairs)} }}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _key(key: str) -> str:
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else json.dumps(key)
