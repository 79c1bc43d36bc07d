"""The HTML report as text; how it behaves in a browser is tested end to end."""

import json
import re
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.reports import html
from apexbench.reports.outcome import index
from apexbench.reports.palette import styles
from apexbench.reports.panels import Chart
from apexbench.reports.plotting import label, seconds_axis, to_script
from apexbench.reports.verdicts import verdicts
from apexbench.reports.views import VIEWS
from apexbench.result import Result, parse, to_json

DOCUMENTS = ("build", "empty", "zero_successes", "hostile")


class Page(HTMLParser):
    """Elements of a page: (tag, attributes), and the text of JSON scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, str] = {}
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        is_json = tag == "script" and found.get("type") == "application/json"
        self._script = found["id"] if is_json else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.figures[self._script] = self.figures.get(self._script, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def without_plotly(text: str) -> str:
    """The report less its 5 MB of library, which the parser need not read."""
    return re.sub(r"<script>\n/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest, synthetic: ModuleType) -> Result:
    found: Result = getattr(synthetic, request.param)()
    return found


def test_renders_without_outside_references(document: Result) -> None:
    page = Page(without_plotly(html.render(document)))
    for tag, attributes in page.elements:
        assert "src" not in attributes
        target = attributes.get("href") or "#"
        assert target.startswith("#") or (tag, target) == ("link", "data:,")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_chart_is_described_and_has_its_data(document: Result) -> None:
    page = Page(without_plotly(html.render(document)))
    ids = {attributes.get("id") for _, attributes in page.elements}
    figures = page.all("figure")
    assert len(figures) == len(page.figures)
    for figure in figures:
        assert figure["role"] == "img"
        assert set((figure["aria-labelledby"] or "").split()) <= ids
    tables = page.all("table")
    assert len(tables) >= len(figures)


def test_figures_are_valid_plotly(synthetic: ModuleType) -> None:
    from plotly.graph_objects import Figure

    outcome = index(synthetic.build(seeds=2, cases=synthetic.CASES[:1]))
    charts = [
        panel.body
        for view in VIEWS
        for panel in view.build(outcome)
        if isinstance(panel.body, Chart)
    ]
    assert len(charts) > 10
    for chart in charts:
        Figure(concrete(chart.figure))  # raises on an unknown or malformed property


def concrete(value: Any) -> Any:
    """Theme colours replaced by a colour, as the page's script does."""
    if isinstance(value, str):
        return "#000" if value.startswith("@") else value
    if isinstance(value, list):
        return [concrete(item) for item in value]
    if isinstance(value, dict):
        return {key: concrete(item) for key, item in value.items()}
    return value


def test_the_library_is_embedded_once(synthetic: ModuleType) -> None:
    text = html.render(synthetic.build(seeds=1))
    assert text.count("* plotly.js v") == 1
    assert len(without_plotly(text)) < 1_500_000


def test_no_library_where_nothing_is_plotted(synthetic: ModuleType) -> None:
    text = html.render(synthetic.empty())
    assert "* plotly.js v" not in text
    assert "Nothing to plot: " in text


def test_equal_documents_give_equal_bytes(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=2)
    again = parse(to_json(result), "again")
    assert html.render(result) == html.render(again)


def test_the_environment_is_confined_to_its_table(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1)
    moved = result.environment.model_copy(update={"cpu_model": "SOME-OTHER-CPU"})
    here = without_plotly(html.render(result)).splitlines()
    there = without_plotly(html.render(result.model_copy(update={"environment": moved})))
    differing = [b for a, b in zip(here, there.splitlines(), strict=True) if a != b]
    assert len(differing) == 1
    assert "SOME-OTHER-CPU" in differing[0]


def test_verdict_numbers_are_exact_in_the_markup(synthetic: ModuleType) -> None:
    result = synthetic.build()
    page = Page(without_plotly(html.render(result)))
    found = [
        (a["data-verdict-number"], a["data-key"], float(a["data-value"] or "nan"))
        for a in page.all("span")
        if "data-key" in a and a["data-verdict-number"] != "losses"
    ]
    expected = [(v.scenario, n.key, float(n.value)) for v in verdicts(result) for n in v.numbers]
    assert found == expected


def test_hostile_names_stay_text(synthetic: ModuleType) -> None:
    text = without_plotly(html.render(synthetic.hostile()))
    assert "<script>window.pwned" not in text
    assert "<a href=x" not in text
    page = Page(text)
    articles = [a for a in page.all("article") if "data-verdict" in a]
    assert [a["data-verdict"] for a in articles] == [synthetic.HOSTILE]
    for figure in page.figures.values():
        json.loads(figure)


def test_a_measured_result_does_not_say_simulated(synthetic: ModuleType) -> None:
    text = without_plotly(html.render(synthetic.build(seeds=1, backend="cuda")))
    assert "MEASURED ON A GPU" in text
    assert "SIMULATED" not in text


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_embedded_json_cannot_end_its_element(value: Any) -> None:
    text = to_script(value)
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


@given(st.text())
def test_chart_labels_hold_no_markup(text: str) -> None:
    shown = label(text)
    assert "<" not in shown
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("low", "high"), [(0.05, 0.2), (0.35, 9.0), (1e-4, 50.0), (0.2, 0.2), (3.0, 3.3)]
)
def test_log_axes_have_some_readable_ticks(low: float, high: float) -> None:
    ticks = seconds_axis("", [low, None, high])["tickvals"]
    assert 2 <= len(ticks) <= 7
    assert any(low / 2 <= tick <= high * 2 for tick in ticks)


def test_a_log_axis_of_nothing_has_no_ticks() -> None:
    assert seconds_axis("", [None, 0.0])["tickvals"] == []


def test_policies_look_the_same_everywhere_and_differ() -> None:
    names = ["gpu-only", "mine.a:P", "apex", "mine.b:Q", "planner"]
    look = styles(names)
    assert look["apex"] == styles(["apex"])["apex"]
    assert len(set(look.values())) == len(names)
