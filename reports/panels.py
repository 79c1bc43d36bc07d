"""What a view hands to the HTML page: panels of charts, tables, cards or text; no markup."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from apexbench.reports.outcome import Outcome

Figure = dict[str, Any]  # {"data": [...], "layout": {...}} as plotly.js takes it


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of finished text; the columns named in `numeric` are aligned right."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class LegendItem:
    """One entry of a legend: a line with its dash and marker, or a patch where dash is None."""

    label: str
    color: str
    dash: str | None = None
    marker: str | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A plotly figure, the same thing in words, and its data."""

    kind: ClassVar[str] = "chart"
    figure: Figure
    height: int  # pixels
    summary: str
    table: Table
    legend: tuple[LegendItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A labelled value on a card with its change against the baseline."""

    label: str
    value: str
    change: str = ""
    verdict: str = ""  # better, worse, no_significant_difference or empty
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One policy at a glance."""

    title: str
    mark: LegendItem
    tag: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Cards:
    """A row of cards."""

    kind: ClassVar[str] = "cards"
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Preformatted text, such as a command."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A plain sentence where there is nothing else to show."""

    kind: ClassVar[str] = "note"
    text: str


Body = Table | Chart | Cards | Text | Note


@dataclass(frozen=True, slots=True)
class Panel:
    """One box of the report. `scenario` is the position of the only scenario it belongs to."""

    id: str
    title: str
    hint: str
    body: Body
    scenario: int | None = None
    is_wide: bool = False
    is_folded: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A section of the report, made from a result alone. `first` ones come before the contents."""

    id: str
    title: str
    lead: str
    place: Literal["first", "more"]
    build: Callable[[Outcome], Iterable[Panel]]


def nothing(view: str, scenario: int | None, title: str, why: str) -> Panel:
    """The panel of a view that has no data."""
    where = "all" if scenario is None else str(scenario)
    return Panel(f"{view}-{where}-nothing", title, "", Note(f"Nothing to plot: {why}"), scenario)
