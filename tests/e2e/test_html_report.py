"""The HTML report in a real headless Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apexbench.reports import html
from apexbench.result import Comparison, Result, parse, to_json
from tests import synthetic_result as synthetic
from tests.e2e import browser as driver

PHONE_WIDTH = 390
DESKTOP_WIDTH = 1280


pytestmark = pytest.mark.skipif(not driver.is_available(), reason=driver.MISSING)


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with driver.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What a reader of result.json gets: parsed from its text."""
    return parse(to_json(synthetic.build()), "result.json")


@pytest.fixture(scope="module")
def report(document: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html.render(document), encoding="utf-8")
    return path


def resize(window: Any, width: int, height: int = 1600) -> None:
    window.command(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip


def set_scheme(window: Any, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    window.command("Emulation.setEmulatedMedia", features=[feature])


def show(window: Any, page: Path, width: int = DESKTOP_WIDTH, scheme: str = "light") -> None:
    """Open a page with empty logs behind it."""
    resize(window, width)
    set_scheme(window, scheme)
    window.console_errors()
    window.requests_beside(page)
    window.open(page)


DRAW_ALL = """
    dispatchEvent(new Event("beforeprint"));
    dispatchEvent(new Event("afterprint"));
    return document.querySelectorAll(".plot").length;
"""
COUNT_DRAWN = "return document.querySelectorAll('.plot .main-svg').length"


def test_no_console_error_and_no_request(window: Any, report: Path) -> None:
    show(window, report)
    plots = window.run(DRAW_ALL)
    assert plots > 30
    assert window.run(COUNT_DRAWN) >= plots
    assert window.console_errors() == []
    assert window.requests_beside(report) == []


def test_the_watch_itself_sees_errors_and_requests(window: Any, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy.html"
    noisy.write_text('<img src="http://127.0.0.1:1/x.png"><script>nope()</script>', "utf-8")
    show(window, noisy)
    assert "nope is not defined" in " ".join(window.console_errors())
    assert window.requests_beside(noisy) == ["http://127.0.0.1:1/x.png"]


def comparison_of(document: Result, setting: str, candidate: str, metric: str) -> Comparison:
    key = (setting, candidate, metric)
    return next(c for c in document.comparisons if (c.setting, c.candidate, c.metric) == key)


READ_VERDICTS = """
    return [...document.querySelectorAll("article[data-verdict]")].map((article) => ({
        scenario: article.dataset.verdict,
        text: article.innerText,
        numbers: Object.fromEntries([...article.querySelectorAll("[data-key]")].map(
            (number) => [number.dataset.key, number.dataset.value])),
    }));
"""


def test_the_verdict_shows_the_numbers_of_the_document(
    window: Any, report: Path, document: Result
) -> None:
    show(window, report)
    shown = window.run(READ_VERDICTS)
    scenarios = dict.fromkeys(setting.scenario for setting in document.settings)
    assert [verdict["scenario"] for verdict in shown] == list(scenarios)
    for verdict in shown:
        check_verdict(verdict, document)


def check_verdict(verdict: dict[str, Any], document: Result) -> None:
    ids = {s.rate_label: s.id for s in document.settings if s.scenario == verdict["scenario"]}
    numbers = {key: float(value) for key, value in verdict["numbers"].items()}
    throughput = comparison_of(document, ids["inf"], "static:deferred", "output_throughput_tok_s")
    tpot = comparison_of(document, ids["0.8x"], "static:deferred", "tpot_p50_s")
    assert numbers["throughput_ratio"] == throughput.ratio
    assert numbers["throughput_ci_low"] == throughput.ci_low
    assert numbers["throughput_ci_high"] == throughput.ci_high
    assert numbers["throughput_n"] == throughput.n
    assert numbers["tpot_ratio"] == tpot.ratio
    run = next(
        r for r in document.runs if (r.setting, r.variant) == (ids["inf"], "static:deferred")
    )
    assert numbers["gpu_kv_tokens"] == run.gpu_kv_tokens
    assert f"{throughput.ratio:.2f}\u00d7" in verdict["text"]
    assert f"n = {throughput.n} seeds" in verdict["text"]


def test_the_badge_comes_first(window: Any, report: Path) -> None:
    show(window, report)
    text = window.run("return document.body.innerText")
    assert text.index("SIMULATED") < text.index("the best of 4 hybrids")


READ_LOOK = """
    const [previous] = arguments;
    const plot = document.querySelector("#rates-0-goodput_rps-plot");
    const look = () => ({
        page: getComputedStyle(document.body).backgroundColor,
        font: plot.layout.font.color,
        baseline: plot.data.find((trace) => trace.name === "gpu-only").line.color,
    });
    return new Promise((done) => {
        let attempts = 0;  // the redraw follows the change of scheme, but not at once
        const poll = () => {
            if (look().font !== previous || ++attempts > 200) done(look());
            else setTimeout(poll, 50);
        };
        poll();
    });
"""


def test_charts_follow_the_colour_scheme(window: Any, report: Path) -> None:
    show(window, report, scheme="light")
    window.run(DRAW_ALL)
    light = window.run(READ_LOOK, None)
    set_scheme(window, "dark")
    dark = window.run(READ_LOOK, light["font"])
    for part in ("page", "font", "baseline"):
        assert light[part] != dark[part]


def test_the_picker_shows_one_scenario(window: Any, report: Path) -> None:
    show(window, report)
    visible = """
        const panels = [...document.querySelectorAll("[data-scenario]")];
        const shown = panels.filter((panel) => panel.offsetParent !== null);
        return [...new Set(shown.map((panel) => panel.dataset.scenario))];
    """
    assert window.run(visible) == ["0"]
    window.run("document.querySelector('[data-pick=\"2\"]').click()")
    assert window.run(visible) == ["2"]


def test_a_legend_entry_hides_its_curve(window: Any, report: Path) -> None:
    show(window, report)
    window.run(DRAW_ALL)
    shown = """
        const plot = document.querySelector("#rates-0-goodput_rps-plot");
        return plot.data.filter((trace) => trace.visible !== false).map((trace) => trace.name);
    """
    assert "neo" in window.run(shown)
    window.run("document.querySelector('#rates-0-goodput_rps [data-trace=\"neo\"]').click()")
    assert "neo" not in window.run(shown)
    assert "apex" in window.run(shown)


def test_a_phone_needs_no_sideways_scrolling(window: Any, report: Path) -> None:
    show(window, report, width=PHONE_WIDTH)
    window.run(DRAW_ALL)
    assert window.run("return document.documentElement.scrollWidth") == PHONE_WIDTH
    wide = """
        return [...document.querySelectorAll(".plot .main-svg")]
            .filter((svg) => svg.getBoundingClientRect().right > innerWidth).length;
    """
    assert window.run(wide) == 0


READ_LATENCY_TABLE = """
    const box = document.querySelector("#latency-table .panel:not(:has(.fold)) .scroll");
    box.scrollLeft = 400;
    const left = (element) => Math.round(element.getBoundingClientRect().left);
    const [name, value] = box.querySelectorAll("tbody tr:last-child td");
    return {
        width: box.clientWidth,
        content: box.scrollWidth,
        name: left(name) - left(box),
        value: left(value) - left(box),
    };
"""


def test_nine_policies_fit_a_phone(window: Any, tmp_path: Path) -> None:
    """Wide tables scroll within themselves and keep the name of the row in sight."""
    page = tmp_path / "nine.html"
    names = tuple(synthetic.BEHAVIOURS)
    document = synthetic.build(seeds=2, cases=synthetic.CASES[:1], variants=names)
    page.write_text(html.render(document), encoding="utf-8")
    show(window, page, width=PHONE_WIDTH)
    window.run(DRAW_ALL)
    assert window.run("return document.documentElement.scrollWidth") == PHONE_WIDTH
    table = window.run(READ_LATENCY_TABLE)
    assert table["content"] > table["width"] + 400
    assert table["name"] == 0
    assert table["value"] < 0
    assert window.console_errors() == []


@pytest.mark.parametrize("name", ["empty", "zero_successes", "hostile"])
def test_odd_documents_open_cleanly(window: Any, tmp_path: Path, name: str) -> None:
    page = tmp_path / f"{name}.html"
    page.write_text(html.render(getattr(synthetic, name)()), encoding="utf-8")
    show(window, page)
    window.run(DRAW_ALL)
    assert window.console_errors() == []
    assert window.requests_beside(page) == []
    assert window.run("return window.pwned === undefined")
    assert len(window.run(READ_VERDICTS)) >= 1
