"""Attention on the CPU as `apexbench profile` measured it: the curves of a host's own file.

Reads and chooses among them; what they are fitted from is not here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from apexbench.engine.profile_files import Constant, ProfileTable, Unit
from apexbench.errors import InputError, UsageError

# Query heads of the layers that are measured: what a row costs beside its bytes grows with them.
MEASURED_HEADS = 32
# How sure a number is that lies between two measured numbers of threads.
BETWEEN_SIGMA = 0.1

_HINTS: Mapping[str, Any] = {
    "name": str,
    "dtype": str,
    "gqa_group": int,
    "threads": int,
    "tokens": list,
    "factors": list,
    "gb_per_s": Annotated[Constant, Unit("GB/s")],
    "row_us": Annotated[Constant, Unit("us", is_zero_allowed=True)],
    "dispatch_us": Annotated[Constant, Unit("us", is_zero_allowed=True)],
    "fit": dict,
}
_REQUIRED = frozenset(_HINTS) - {"name", "fit"}


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Jobs of one KV dtype and GQA group on `threads` threads.

    A job takes dispatch_us once, and for each row of t tokens factor(t) x (row_us + bytes(t) /
    gb_per_s): a straight line with what was measured over it at each of `tokens`. `row_us` is of
    all threads together and of MEASURED_HEADS query heads.
    """

    dtype: str
    gqa_group: int
    threads: int
    gb_per_s: Constant
    row_us: Constant
    dispatch_us: Constant
    tokens: tuple[int, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class MeasuredAttention:
    """All curves of one host, at least one."""

    host: str
    curves: tuple[MeasuredCurve, ...]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """KV dtypes that were measured."""
        return tuple(dict.fromkeys(curve.dtype for curve in self.curves))

    @property
    def most_threads(self) -> int:
        """The largest number of threads that was measured."""
        return max(curve.threads for curve in self.curves)

    def curve(self, dtype: str, gqa_group: float, threads: int) -> MeasuredCurve:
        """The curve of the nearest group; UsageError for a dtype or threads beyond the measured."""
        of_dtype = [curve for curve in self.curves if curve.dtype == dtype]
        if not of_dtype:
            raise UsageError(
                f"CPU attention on host '{self.host}' was not measured with {dtype} KV, only with"
                f" {', '.join(self.dtypes)}; run apexbench profile without --quick, or use"
                " --cpu-kernel apexbench"
            )
        group = min((c.gqa_group for c in of_dtype), key=lambda one: _distance(one, gqa_group))
        return self._with_threads([c for c in of_dtype if c.gqa_group == group], threads)

    def _with_threads(self, curves: list[MeasuredCurve], threads: int) -> MeasuredCurve:
        ordered = sorted(curves, key=lambda curve: curve.threads)
        for curve in ordered:
            if curve.threads == threads:
                return curve
        for below, above in pairwise(ordered):
            if below.threads < threads < above.threads:
                return _between(below, above, threads)
        raise UsageError(
            f"CPU attention on host '{self.host}' was measured with {ordered[0].threads} to"
            f" {ordered[-1].threads} threads, not {threads}; pass --cpu-threads within that, or run"
            f" apexbench profile --cpu-threads {threads}"
        )


def parse_attention(host: str, path: Path, raw: object) -> MeasuredAttention:
    """The `[[attention]]` tables of a host's file; InputError in one sentence for a wrong one."""
    if not isinstance(raw, list) or not raw or not all(isinstance(one, dict) for one in raw):
        raise InputError(f"profile '{path}': 'attention' must be a list of tables [[attention]]")
    curves = tuple(_curve(path, index, table) for index, table in enumerate(raw, 1))
    keys = [(curve.dtype, curve.gqa_group, curve.threads) for curve in curves]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise InputError(
            f"profile '{path}': [[attention]] has dtype {twice[0]}, gqa_group {twice[1]} and"
            f" {twice[2]} threads twice; keep one"
        )
    return MeasuredAttention(host, curves)


def _curve(path: Path, index: int, raw: Mapping[str, object]) -> MeasuredCurve:
    table = ProfileTable(path, f"attention {index}", raw, {})
    values = table.values(_HINTS, set(_REQUIRED))
    for key in ("gqa_group", "threads"):
        if isinstance(values[key], bool) or values[key] < 1:
            raise table.error(key, f"is {values[key]!r}; expected at least 1")
    tokens, factors = (_numbers(table, key, values[key]) for key in ("tokens", "factors"))
    if len(tokens) != len(factors):
        raise table.error("factors", f"has {len(factors)} numbers; expected one for each of tokens")
    if any(late <= early for early, late in pairwise(tokens)):
        raise table.error("tokens", "must ascend")
    del values["name"], values["tokens"], values["factors"]
    values.pop("fit", None)
    return MeasuredCurve(**values, tokens=tuple(int(t) for t in tokens), factors=tuple(factors))


def _numbers(table: ProfileTable, key: str, values: Iterable[object]) -> list[float]:
    """At least one positive finite number."""
    found = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    is_whole_list = len(found) == len(list(values)) and found
    if not is_whole_list or not all(0 < number < float("inf") for number in found):
        raise table.error(key, "must be a list of positive numbers")
    return found


def _distance(group: float, wanted: float) -> tuple[float, float]:
    """By ratio, the smaller group first where two are equally far: groups double."""
    return max(group / wanted, wanted / group), group


def _between(below: MeasuredCurve, above: MeasuredCurve, threads: int) -> MeasuredCurve:
    """A straight line between two numbers of threads; an inference, not a measurement."""
    share = (threads - below.threads) / (above.threads - below.threads)

    def mixed(one: Constant, other: Constant) -> Constant:
        return Constant(
            one.value + share * (other.value - one.value),
            one.unit,
            f"between {below.threads} and {above.threads} threads: {other.source}",
            "inferred",
            max(one.sigma, other.sigma, BETWEEN_SIGMA),
        )

    factors = below.factors
    if below.tokens == above.tokens:
        pairs = zip(below.factors, above.factors, strict=True)
        factors = tuple(one + share * (other - one) for one, other in pairs)
    return replace(
        below,
        threads=threads,
        factors=factors,
        gb_per_s=mixed(below.gb_per_s, above.gb_per_s),
        row_us=mixed(below.row_us, above.row_us),
        dispatch_us=mixed(below.dispatch_us, above.dispatch_us),
    )
