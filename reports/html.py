"""The HTML report: one file that needs nothing else, made from a result document alone."""

from collections.abc import Iterable
from itertools import chain

from apexbench.reports.assets import embedded, environment
from apexbench.reports.basis import basis
from apexbench.reports.losses import Cell, LossReport
from apexbench.reports.outcome import index
from apexbench.reports.panels import Panel, Table
from apexbench.reports.verdicts import verdicts, where_hybrid_loses
from apexbench.reports.views import VIEWS
from apexbench.reports.wording import describe, interval, times
from apexbench.result import Result

_MAX_LOSSES = 12  # rows; the full list is in the table of comparisons


def render(result: Result) -> str:
    """The report as one self-contained document; equal results give equal bytes."""
    outcome = index(result)
    losses = where_hybrid_loses(result)
    sections = [(view, panels) for view in VIEWS if (panels := tuple(view.build(outcome)))]
    template = environment().get_template("report.html.j2")
    return template.render(
        result=result,
        outcome=outcome,
        basis=basis(result),
        verdicts=verdicts(result),
        losses=losses,
        loss_table=_loss_table(losses),
        sections=sections,
        has_charts=_has_charts(chain.from_iterable(panels for _, panels in sections)),
        **embedded(),
    )


def _has_charts(panels: Iterable[Panel]) -> bool:
    return any(panel.body.kind == "chart" for panel in panels)


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
