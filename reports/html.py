"""The HTML report: one file that needs nothing else, made from a result document alone."""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain

import jinja2
from markupsafe import Markup

from apexbench.reports.basis import basis
from apexbench.reports.losses import Cell, LossReport
from apexbench.reports.outcome import index
from apexbench.reports.palette import DASH_ARRAYS, MARKER_PATHS, css_color
from apexbench.reports.panels import Panel, Table
from apexbench.reports.plotting import to_script
from apexbench.reports.verdicts import verdicts, where_hybrid_loses
from apexbench.reports.views import VIEWS
from apexbench.reports.wording import describe, interval, times
from apexbench.result import Result

_MAX_LOSSES = 12  # rows; the full list is in the table of comparisons


def render(result: Result) -> str:
    """The report as one self-contained document; equal results give equal bytes."""
    outcome = index(result)
    losses = where_hybrid_loses(result)
    sections = [(view, tuple(view.build(outcome))) for view in VIEWS]
    template = _environment().get_template("report.html.j2")
    return template.render(
        result=result,
        outcome=outcome,
        basis=basis(result),
        verdicts=verdicts(result),
        losses=losses,
        loss_table=_loss_table(losses),
        sections=sections,
        has_charts=_has_charts(chain.from_iterable(panels for _, panels in sections)),
        style=Markup(_static("report.css")),
        script=Markup(_static("report.js")),
        plotly=Markup(_plotly()),
    )


def _has_charts(panels: Iterable[Panel]) -> bool:
    return any(panel.body.kind == "chart" for panel in panels)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _text("templates", name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["script_json"] = lambda value: Markup(to_script(value))
    environment.filters["css_color"] = css_color
    environment.globals |= {"marker_paths": MARKER_PATHS, "dash_arrays": DASH_ARRAYS}
    return environment


def _folder() -> Traversable:
    return files("apexbench.reports")


def _text(folder: str, name: str) -> str:
    return _folder().joinpath(folder, name).read_text(encoding="utf-8")


def _static(name: str) -> str:
    return _text("static", name)


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB that only a report needs

    return str(get_plotlyjs())


def _loss_table(losses: LossReport) -> Table:
    """The worst cell of every hybrid on every scenario."""
    worst: dict[tuple[str, str], Cell] = {}
    for cell in losses.losses:
        worst.setdefault((cell.scenario, cell.variant), cell)
    rows = tuple(
        (
            cell.scenario,
            cell.variant,
            cell.rate,
            describe(cell.metric).name,
            cell.against,
            times(cell.ratio),
            interval(cell.ci_low, cell.ci_high),
            str(cell.n),
        )
        for cell in list(worst.values())[:_MAX_LOSSES]
    )
    columns = (
        "scenario", "hybrid", "rate", "metric", "against", "ratio", "95 % interval", "seeds",
    )  # fmt: skip
    return Table(columns, rows, frozenset({5, 6, 7}))
