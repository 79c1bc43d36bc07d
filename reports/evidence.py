"""What stands behind a ratio, for sentences and for cells of tables; judges nothing."""

from collections.abc import Iterator

from apexbench.reports.prose import Number, Part
from apexbench.reports.wording import EN_DASH, MISSING, interval, number, times
from apexbench.result import Comparison, SweepPoint


def evidence(key: str, found: Comparison) -> Iterator[Part]:
    """Interval and number of seeds, or that there is no interval."""
    if found.ci_low is None or found.ci_high is None:
        yield "one seed, "
        yield Number(f"{key}_n", found.n, f"n = {found.n}")
        yield ", no interval"
        return
    yield "95 % interval "
    yield Number(f"{key}_ci_low", found.ci_low, number(found.ci_low))
    yield EN_DASH
    yield Number(f"{key}_ci_high", found.ci_high, number(found.ci_high))
    yield ", "
    yield Number(f"{key}_n", found.n, f"n = {found.n}")
    yield " seeds"


def significance(found: Comparison) -> str:
    """What to add after a ratio that supports no claim; empty where it does."""
    if found.ci_low is None:
        return "; one seed supports no claim"
    if found.verdict == "no_significant_difference":
        return "; not a significant difference"
    return ""


def ratio_cell(found: Comparison | SweepPoint | None) -> str:
    """A ratio with its interval, or with the number of seeds where there is none."""
    if found is None or found.ratio is None:
        return MISSING
    if found.ci_low is None:
        return f"{times(found.ratio)} (n = {found.n})"
    return f"{times(found.ratio)} ({interval(found.ci_low, found.ci_high)})"
