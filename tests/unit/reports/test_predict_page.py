"""The page of `apexbench predict --html` as text, its bars, and its figures."""

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from plotly.graph_objects import Figure

from apexbench.engine.deployment import deploy
from apexbench.engine.predict.document import header, layer_document, steady_document
from apexbench.engine.predict.layer import predict
from apexbench.engine.predict.machine import Machine, ideal
from apexbench.engine.predict.mix import Mix
from apexbench.engine.predict.steady import ask, solve
from apexbench.reports.panels import Chart, Panel
from apexbench.reports.predict_document import SteadyPrediction, StepPrediction, read
from apexbench.reports.predict_page import render
from apexbench.reports.predict_views import layer_bars, steady_panels, step_bars, step_panels

Document = dict[str, Any]
T4 = Machine(deploy())
STARVED = Machine(deploy(), 60e9)
MIXES = {
    "decode": Mix(rows=7, kv_tokens=2940),
    "both tiers": Mix(rows=7, kv_tokens=2940, cpu_rows=40, cpu_kv_tokens=16800),
    "prompt": Mix(rows=1, kv_tokens=30, prefill_tokens=900),
    "cpu alone": Mix(cpu_rows=3, cpu_kv_tokens=300),
}


def step_of(mix: Mix, machine: Machine = T4) -> Document:
    document = header(machine, "9.9") | layer_document(predict(machine, mix))
    return document | {"is_ideal": False, "gpu_kv_tokens": 3000}


def steady_of(tpot_s: float | None) -> Document:
    question = ask(STARVED, context=420, host_memory_gib=1.5, tpot_s=tpot_s)
    return header(STARVED, "9.9") | steady_document(solve(question)) | {"is_ideal": False}


DOCUMENTS: dict[str, Document] = {
    **{name: step_of(mix) for name, mix in MIXES.items()},
    "ideal": step_of(MIXES["both tiers"], ideal(T4)) | {"is_ideal": True},
    "steady": steady_of(None),
    "bounded": steady_of(0.2),
}


def step(name: str) -> StepPrediction:
    found = read(DOCUMENTS[name])
    assert isinstance(found, StepPrediction)
    return found


def charts(document: Document) -> list[tuple[Panel, Chart]]:
    found = read(document)
    is_steady = isinstance(found, SteadyPrediction)
    panels = list(steady_panels(found) if is_steady else step_panels(found))  # type: ignore[arg-type]
    return [(panel, panel.body) for panel in panels if isinstance(panel.body, Chart)]


class Page(HTMLParser):
    """Attributes of all elements, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def without_plotly(text: str) -> str:
    return re.sub(r"<script>\n/\*\*\n\* plotly\.js.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_page_needs_nothing_else_and_describes_its_charts(name: str) -> None:
    text = render(DOCUMENTS[name])
    assert text.count("* plotly.js v") == 1
    elements = Page(without_plotly(text)).elements
    for tag, attributes in elements:
        assert "src" not in attributes
        target = attributes.get("href") or "#"
        assert target.startswith("#") or (tag, target) == ("link", "data:,")
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    figures = [attributes for tag, attributes in elements if tag == "figure"]
    assert len(figures) == (1 if name in ("steady", "bounded") else 3)
    for figure in figures:
        assert set((figure["aria-labelledby"] or "").split()) <= set(ids)


def test_equal_documents_give_equal_bytes() -> None:
    again = step_of(MIXES["both tiers"])
    assert render(again) == render(DOCUMENTS["both tiers"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_figures_are_valid_and_theme_colours_stand_where_the_script_looks(name: str) -> None:
    for _, chart in charts(DOCUMENTS[name]):
        Figure(concrete(chart.figure, ""))
        assert "@" not in repr(concrete(chart.figure, ""))


def concrete(value: Any, key: str) -> Any:
    """Theme colours replaced as the page's script does: only right under a key of a colour."""
    if isinstance(value, str):
        return "#000" if value.startswith("@") and key.endswith("color") else value
    if isinstance(value, list):
        return [concrete(item, "") for item in value]
    if isinstance(value, dict):
        return {k: concrete(item, k) for k, item in value.items()}
    return value


@pytest.mark.parametrize("name", DOCUMENTS)
def test_legend_entries_name_traces_and_summaries_all_rows(name: str) -> None:
    for panel, chart in charts(DOCUMENTS[name]):
        traces = {trace["meta"] for trace in chart.figure["data"]}
        assert {item.label for item in chart.legend} <= traces
        for row in chart.table.rows:
            shown = row[1] if panel.id == "strategies" else row[0]
            assert shown.startswith("roof: ") or shown in chart.summary


def test_gpu_bars_of_a_layer_stand_end_to_end() -> None:
    prediction = step("both tiers")
    lanes = {op.name: op.lane for op in prediction.layer.ops}
    bars = layer_bars(prediction)
    on_gpu = [bar for bar in bars if lanes[bar.name] == "gpu"]
    for before, after in pairwise(on_gpu):
        assert after.start_s == pytest.approx(before.start_s + before.seconds)
    assert on_gpu[-1].start_s + on_gpu[-1].seconds == pytest.approx(prediction.layer.gpu_s)
    away = [bar for bar in bars if lanes[bar.name] != "gpu"]
    ready = next(bar for bar in on_gpu if bar.name == "rope_kv_store")
    assert away[0].start_s == pytest.approx(ready.start_s + ready.seconds)
    assert sum(bar.seconds for bar in away) == pytest.approx(prediction.layer.cpu_path_s)


@pytest.mark.parametrize("name", MIXES)
def test_bars_of_a_step_fill_it(name: str) -> None:
    prediction = step(name)
    bars = step_bars(prediction)
    end = bars[-1].start_s + bars[-1].seconds
    assert end == pytest.approx(prediction.step.seconds, rel=0.005)
    assert ("waiting" in {bar.name for bar in bars}) is bool(prediction.mix.cpu_rows)


def test_every_op_that_computes_is_a_mark_below_its_roofs() -> None:
    prediction = step("prompt")
    (chart,) = [chart for panel, chart in charts(DOCUMENTS["prompt"]) if panel.id == "roofline"]
    marks = {t["meta"]: t for t in chart.figure["data"] if t["mode"] == "markers"}
    assert set(marks) == {op.name for op in prediction.layer.ops if op.intensity is not None}
    assert {"qkv", "prefill_attention", "gpu_attention"} <= set(marks)
    sheet = prediction.roofs[0]
    for trace in marks.values():
        (x,), (y,) = trace["x"], trace["y"]
        assert y * 1e12 <= min(sheet.flops_per_s or 0.0, x * sheet.bytes_per_s)
    lines = {t["meta"]: t["y"] for t in chart.figure["data"] if t["mode"] == "lines"}
    assert "CPU attention" not in lines
    for roof in prediction.roofs[:2]:
        assert roof.flops_per_s is not None
        assert lines[roof.name][1:] == pytest.approx([roof.flops_per_s / 1e12] * 2, rel=1e-3)


def test_cpu_attention_has_a_mark_and_a_roof_of_its_own() -> None:
    (chart,) = [c for panel, c in charts(DOCUMENTS["both tiers"]) if panel.id == "roofline"]
    traces = {trace["meta"]: trace for trace in chart.figure["data"]}
    roof = traces["CPU attention"]
    assert roof["y"][-1] / roof["x"][-1] == pytest.approx(0.018, rel=1e-3)  # 18 GB/s, in T
    (x,), (y,) = traces["cpu_attention"]["x"], traces["cpu_attention"]["y"]
    assert y == pytest.approx(0.018 * x, rel=0.01)


def test_the_best_strategy_is_marked_with_and_without_the_bound() -> None:
    (_, free), (_, bounded) = *charts(DOCUMENTS["steady"]), *charts(DOCUMENTS["bounded"])
    assert len(free.figure["data"]) == 5
    assert len(bounded.figure["data"]) == 10
    for chart, optima in ((free, 1), (bounded, 2)):
        best = [trace["meta"] for trace in chart.figure["data"] if "best" in trace["text"][0]]
        assert len(best) == optima
    assert "deferred out of reach" in bounded.summary
    assert DOCUMENTS["bounded"]["within_tpot"]["optimum"] in bounded.summary


def test_what_cannot_be_and_what_is_left_out_is_said() -> None:
    plain = without_plotly(render(DOCUMENTS["decode"]))
    assert "Warning:" not in plain
    assert "Ideal" not in plain
    too_much = step_of(Mix(rows=100, kv_tokens=100_000))
    assert "the GPU holds 3\u202f000" in render(too_much)
    assert "Ideal: no latencies" in render(DOCUMENTS["ideal"])


def test_hostile_names_stay_text() -> None:
    document = dict(DOCUMENTS["decode"])
    document["config"] = document["config"] | {"model": "</script><script>alert(1)</script>"}
    assert "<script>alert" not in render(document)
