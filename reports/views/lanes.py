"""How busy each lane was, and what the GPU waited for when it was not."""

from collections.abc import Callable, Iterator, Mapping

from apexbench.records import IDLE_REASONS, LANES
from apexbench.reports.outcome import Outcome
from apexbench.reports.palette import IDLE_COLORS, LANE_COLORS, MUTED
from apexbench.reports.panels import Chart, Panel, Table, View, nothing
from apexbench.reports.plotting import axis, drawn, figure, label, patch_legend
from apexbench.reports.wording import percent, rate
from apexbench.result import Run, Setting

_FRAME_HEIGHT = 90
_STACK_ROW_HEIGHT = 34
_GROUP_ROW_HEIGHT = 52
Shares = dict[str, dict[str, float]]  # policy -> part -> fraction of the window


def build(outcome: Outcome) -> Iterator[Panel]:
    """Utilisation and idle breakdown per scenario, at saturation or else online."""
    for position, scenario in enumerate(outcome.scenarios):
        places = (scenario.saturation, scenario.online)
        setting = next((s for s in places if outcome.variants_at(s)), None)
        if setting is None:
            yield nothing("lanes", position, scenario.name, "no run has finished.")
            continue
        yield _busy_panel(outcome, position, setting)
        yield _idle_panel(outcome, position, setting)


def _busy_panel(outcome: Outcome, position: int, setting: Setting) -> Panel:
    shares = _shares(outcome, setting, lambda run: run.lanes.model_dump())
    colors = {lane: LANE_COLORS[lane] for lane in LANES}
    chart = _chart(shares, colors, is_stacked=False)
    where = rate(setting.rate_label, setting.rate_rps)
    hint = (
        "Longer is busier. A hybrid pays off when the cpu lane fills while the gpu lane stays full."
    )
    return Panel(
        f"lanes-{position}-busy", f"Busy share of each lane at {where}", hint, chart, position
    )


def _idle_panel(outcome: Outcome, position: int, setting: Setting) -> Panel:
    shares = _shares(outcome, setting, lambda run: run.gpu_idle)
    reasons = dict.fromkeys([*IDLE_REASONS, *(part for row in shares.values() for part in row)])
    colors = {reason: IDLE_COLORS.get(reason, MUTED) for reason in reasons}
    chart = _chart(shares, colors, is_stacked=True)
    where = rate(setting.rate_label, setting.rate_rps)
    hint = (
        "Shorter is better: the share of the window in which the GPU waited, by what it waited for."
    )
    return Panel(
        f"lanes-{position}-idle", f"Why the GPU was idle at {where}", hint, chart, position
    )


def _shares(
    outcome: Outcome, setting: Setting, parts: Callable[[Run], Mapping[str, float]]
) -> Shares:
    """Mean over seeds of every part."""
    shares: Shares = {}
    for variant in outcome.variants_at(setting):
        found = [parts(run) for run in outcome.runs(setting, variant.id)]
        names = dict.fromkeys(name for part in found for name in part)
        shares[variant.id] = {
            name: sum(part.get(name, 0.0) for part in found) / len(found) for name in names
        }
    return shares


def _chart(shares: Shares, colors: Mapping[str, str], is_stacked: bool) -> Chart:
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(part),
            "meta": part,
            "y": [label(policy) for policy in shares],
            "x": drawn(row.get(part, 0.0) for row in shares.values()),
            "marker": {"color": color},
            "hovertemplate": "%{y}, %{fullData.name}: %{x:.1%}<extra></extra>",
        }
        for part, color in colors.items()
    ]
    drawing = figure(
        traces,
        axis("share of the window", tickformat=".2~%", rangemode="tozero"),
        axis("", type="category", autorange="reversed"),
        barmode="stack" if is_stacked else "group",
        bargap=0.3,
    )
    row_height = _STACK_ROW_HEIGHT if is_stacked else _GROUP_ROW_HEIGHT
    height = _FRAME_HEIGHT + row_height * len(shares)
    return Chart(drawing, height, _summary(shares), _table(shares, colors), patch_legend(colors))


def _table(shares: Shares, colors: Mapping[str, str]) -> Table:
    rows = [(p, *(percent(row.get(part, 0.0)) for part in colors)) for p, row in shares.items()]
    return Table(("policy", *colors), tuple(rows), frozenset(range(1, len(colors) + 1)))


def _summary(shares: Shares) -> str:
    texts = [
        f"{policy}: " + ", ".join(f"{part} {percent(share)}" for part, share in row.items())
        for policy, row in shares.items()
    ]
    return "; ".join(texts) + "."


VIEW = View(
    id="lanes",
    title="Where the time went",
    lead="Shares of the measurement window, mean over seeds.",
    place="more",
    build=build,
)
