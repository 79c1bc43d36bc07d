"""How charts mark a comparison: better, worse, not significant, one seed. Forms no sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from apexbench.reports.palette import VERDICT_COLORS
from apexbench.reports.panels import LegendItem
from apexbench.result import Comparison, SweepPoint


@dataclass(frozen=True, slots=True)
class Standing:
    """A mark and its words. `symbol` is plotly's name; hollow means that nothing is established."""

    words: str
    color: str
    symbol: str


BETTER = Standing("better", VERDICT_COLORS["better"], "circle")
WORSE = Standing("worse", VERDICT_COLORS["worse"], "diamond")
UNDECIDED = Standing("no significant difference", VERDICT_COLORS["undecided"], "square")
ONE_SEED = Standing("one seed, no interval", VERDICT_COLORS["undecided"], "circle-open")
STANDINGS = (BETTER, WORSE, UNDECIDED, ONE_SEED)

_ROOM = 1.06  # around the outermost mark
_REACH = 2.0  # an interval is drawn at most that factor beyond the outermost ratio


def standing(found: Comparison | SweepPoint) -> Standing:
    """Where a ratio stands."""
    if found.ci_low is None:
        return ONE_SEED
    if found.verdict == "better":
        return BETTER
    return WORSE if found.verdict == "worse" else UNDECIDED


def standing_legend(used: Iterable[Standing]) -> tuple[LegendItem, ...]:
    """Legend entries of the marks that occur."""
    present = set(used)
    return tuple(
        LegendItem(mark.words, mark.color, "solid", mark.symbol)
        for mark in STANDINGS
        if mark in present
    )


def ratio_range(found: Sequence[Comparison | SweepPoint]) -> tuple[float, float]:
    """The part of a ratio axis that shows 1, every ratio, and intervals as far as they are sane.

    With two seeds an interval may span decades; the frame then cuts it, not the ratios.
    """
    ratios = [ratio for item in found if (ratio := item.ratio) is not None]
    low, high = min([1.0, *ratios]), max([1.0, *ratios])
    ends = [item.ci_low or inf for item in found], [item.ci_high or 0.0 for item in found]
    low = min(low, max(min(ends[0], default=inf), low / _REACH))
    high = max(high, min(max(ends[1], default=0.0), high * _REACH))
    return low / _ROOM, high * _ROOM
