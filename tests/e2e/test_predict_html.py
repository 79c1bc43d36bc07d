"""The page of `apexbench predict --html` in a real headless Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apexbench.cli.main import run
from tests.e2e import browser as driver

PHONE_WIDTH = 390
STEP = ("--gpu", "t4", "--rows", "7", "--kv-tokens", "2940", "--cpu-rows", "2",
        "--cpu-kv-tokens", "840")  # fmt: skip
STEADY = ("--steady", "--context", "420", "--host-memory-gib", "1.5", "--cpu-attention-gbps", "60",
          "--slo", "tpot=0.2")  # fmt: skip

pytestmark = pytest.mark.skipif(not driver.is_available(), reason=driver.MISSING)

DRAW_ALL = """
    dispatchEvent(new Event("beforeprint"));
    dispatchEvent(new Event("afterprint"));
    return document.querySelectorAll(".plot").length;
"""
COUNT_DRAWN = "return document.querySelectorAll('.plot .main-svg').length"


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with driver.browser() as opened:
        yield opened


@pytest.fixture(scope="module", params=["step", "steady"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("predict") / f"{request.param}.html"
    arguments = STEP if request.param == "step" else STEADY
    assert run(["predict", *arguments, "--html", str(path)]) == 0
    return path


def show(window: Any, page: Path, width: int = 1280, scheme: str = "light") -> None:
    """Open the page with empty logs behind it and draw every chart."""
    window.command(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=1600, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    feature = {"name": "prefers-color-scheme", "value": scheme}
    window.command("Emulation.setEmulatedMedia", features=[feature])
    window.console_errors()
    window.requests_beside(page)
    window.open(page)


def test_no_console_error_and_no_request(window: Any, page: Path) -> None:
    show(window, page)
    plots = window.run(DRAW_ALL)
    assert plots == (3 if page.stem == "step" else 1)
    assert window.run(COUNT_DRAWN) >= plots
    assert window.console_errors() == []
    assert window.requests_beside(page) == []


def test_a_phone_needs_no_sideways_scrolling(window: Any, page: Path) -> None:
    show(window, page, width=PHONE_WIDTH)
    window.run(DRAW_ALL)
    assert window.run("return document.documentElement.scrollWidth") == PHONE_WIDTH


def test_charts_take_the_colours_of_the_theme(window: Any, page: Path) -> None:
    read = """
        const plot = document.querySelector(".plot");
        return [plot.layout.font.color, JSON.stringify(plot.data).includes('"@')];
    """
    inks = set()
    for scheme in ("light", "dark"):
        show(window, page, scheme=scheme)
        window.run(DRAW_ALL)
        ink, is_left = window.run(read)
        assert not is_left
        inks.add(ink)
    assert len(inks) == 2


@pytest.mark.parametrize("page", ["step"], indirect=True)
def test_a_legend_entry_hides_its_mark(window: Any, page: Path) -> None:
    show(window, page)
    window.run(DRAW_ALL)
    shown = """
        const plot = document.querySelector("#roofline-plot");
        return plot.data.filter((trace) => trace.visible !== false).map((trace) => trace.name);
    """
    assert "qkv" in window.run(shown)
    window.run("document.querySelector('#roofline [data-trace=qkv]').click()")
    assert "qkv" not in window.run(shown)
    assert "datasheet" in window.run(shown)
