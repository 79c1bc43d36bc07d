"""A map of ratios: colours diverge around 1, numbers in the cells, doubtful ones struck out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from apexbench.reports.palette import EVEN_COLOR, GAIN_COLOR, LOSS_COLOR
from apexbench.reports.panels import Figure
from apexbench.reports.plotting import axis, figure, label
from apexbench.reports.wording import times

CELL_HEIGHT = 46
FRAME_HEIGHT = 90
_FULL_COLOR = log(1.5)  # half as much again has full colour where nothing larger occurs
_DARK_FROM = 0.55  # of the full colour: from there on text is white
_DARK_INK, _LIGHT_INK = "#15191e", "#ffffff"
_DARK_STRIKE, _LIGHT_STRIKE = "rgba(60,68,78,0.4)", "rgba(255,255,255,0.55)"
_SCALE = ((0.0, LOSS_COLOR), (0.5, EVEN_COLOR), (1.0, GAIN_COLOR))


@dataclass(frozen=True, slots=True)
class MapCell:
    """A ratio at a column and a row."""

    column: str
    row: str
    ratio: float
    is_significant: bool
    higher_is_better: bool
    words: str  # shown when pointed at

    @property
    def gain(self) -> float:
        """Log of the factor by which it is better; negative where it is worse."""
        return log(self.ratio) if self.higher_is_better else -log(self.ratio)


def heat_map(
    cells: Sequence[MapCell], columns: Sequence[str], rows: Sequence[str], x: str, y: str
) -> Figure:
    """The cells over columns and rows, first row on top; `x` and `y` are the axes' titles."""
    limit = max(_FULL_COLOR, *(abs(cell.gain) for cell in cells))
    texts = {row: _row_text(row) for row in rows}
    traces = [_colors(cells, columns, texts, limit)]
    for is_dark, ink, strike in (
        (False, _DARK_INK, _DARK_STRIKE),
        (True, _LIGHT_INK, _LIGHT_STRIKE),
    ):
        own = [cell for cell in cells if (abs(cell.gain) > _DARK_FROM * limit) == is_dark]
        traces += [_strikes(own, texts, strike), _numbers(own, texts, ink)]
    return figure(
        traces, _category_axis(x, list(columns)), _category_axis(y, list(texts.values())[::-1])
    )


def _row_text(row: str) -> str:
    """The parts of a scenario's name below each other: beside the cells there is little room."""
    return "<br>".join(map(label, row.split("/")))


def _category_axis(title: str, names: list[str]) -> dict[str, Any]:
    return axis(
        title,
        type="category",
        categoryorder="array",
        categoryarray=names,
        range=[-0.5, len(names) - 0.5],  # without room for the marks, which would shift the cells
        showgrid=False,
        fixedrange=True,
        tickangle=0,
    )


def map_height(rows: Sequence[str]) -> int:
    """Pixels."""
    return FRAME_HEIGHT + CELL_HEIGHT * len(rows)


def _colors(
    cells: Iterable[MapCell], columns: Sequence[str], texts: Mapping[str, str], limit: float
) -> dict[str, Any]:
    by_place = {(cell.row, cell.column): cell for cell in cells}
    grid = [[by_place.get((row, column)) for column in columns] for row in texts]
    return {
        "type": "heatmap",
        "x": list(columns),
        "y": list(texts.values()),
        "z": [[None if cell is None else round(cell.gain, 4) for cell in line] for line in grid],
        "text": [["" if cell is None else label(cell.words, 80) for cell in line] for line in grid],
        "hovertemplate": "%{text}<extra></extra>",
        "zmin": -limit,
        "zmax": limit,
        "colorscale": [list(stop) for stop in _SCALE],
        "showscale": False,
        "xgap": 2,
        "ygap": 2,
    }


def _numbers(cells: Sequence[MapCell], texts: Mapping[str, str], color: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "text",
        "x": [cell.column for cell in cells],
        "y": [texts[cell.row] for cell in cells],
        "text": [times(cell.ratio) for cell in cells],
        "textfont": {"color": color, "size": 12},
        "hoverinfo": "skip",
    }


def _strikes(cells: Sequence[MapCell], texts: Mapping[str, str], color: str) -> dict[str, Any]:
    """A slanted line through what is not significant."""
    struck = [cell for cell in cells if not cell.is_significant]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [cell.column for cell in struck],
        "y": [texts[cell.row] for cell in struck],
        "marker": {"symbol": "line-ne", "size": 36, "line": {"width": 2, "color": color}},
        "hoverinfo": "skip",
    }
