"""Marks of comparisons, axes of ratios, and maps of them."""

from math import log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.reports.heat_map import MapCell, heat_map
from apexbench.reports.plotting import ratio_axis
from apexbench.reports.standing import (
    BETTER,
    ONE_SEED,
    STANDINGS,
    UNDECIDED,
    WORSE,
    ratio_range,
    standing,
    standing_legend,
)
from apexbench.reports.swept import swept_value, swept_words
from apexbench.reports.wording import THIN
from apexbench.result import Comparison, Verdict


def compared(
    ratio: float,
    low: float | None,
    high: float | None,
    verdict: Verdict = "no_significant_difference",
) -> Comparison:
    return Comparison(
        setting="s", baseline="gpu-only", candidate="apex", metric="goodput_rps", ratio=ratio,
        ci_low=low, ci_high=high, n=1 if low is None else 3, verdict=verdict,
    )  # fmt: skip


def test_every_kind_of_comparison_has_its_mark() -> None:
    assert standing(compared(1.2, 1.1, 1.3, "better")) is BETTER
    assert standing(compared(1.2, 1.1, 1.3, "worse")) is WORSE
    assert standing(compared(1.2, 0.9, 1.5)) is UNDECIDED
    assert standing(compared(1.2, None, None)) is ONE_SEED
    assert len({mark.symbol for mark in STANDINGS}) == len(STANDINGS)  # not by colour alone


def test_the_legend_names_only_what_occurs() -> None:
    assert [item.label for item in standing_legend([WORSE, BETTER, WORSE])] == ["better", "worse"]


def test_the_frame_holds_ratios_and_sane_intervals() -> None:
    low, high = ratio_range([compared(1.2, 1.1, 1.4), compared(0.9, 0.8, 1.1)])
    assert low < 0.8 < 1.4 < high
    low, high = ratio_range([compared(1.2, 0.001, 900.0), compared(1.3, 1.2, 1.4)])
    assert low > 0.4
    assert 1.4 < high < 3.0
    assert ratio_range([]) == pytest.approx((1 / 1.06, 1.06))


@given(st.floats(0.01, 1.0), st.floats(1.0, 100.0))
def test_ratio_axes_have_a_few_readable_ticks(low: float, high: float) -> None:
    axis = ratio_axis("", low / 1.06, high * 1.06)
    ticks = axis["tickvals"]
    assert 1 <= len(ticks) <= 7
    assert all(low / 1.07 <= tick <= high * 1.07 for tick in ticks)
    assert axis["range"] == [log10(low / 1.06), log10(high * 1.06)]


def test_ratio_ticks_are_written_short() -> None:
    assert ratio_axis("", 0.95, 1.31)["ticktext"][:2] == ["1\u00d7", "1.1\u00d7"]


def test_values_of_sweeps_are_written_as_they_are() -> None:
    assert swept_value(12_000.0) == f"12{THIN}000"
    assert swept_value(0.95) == "0.950"
    assert (swept_words("cpu_attention_gbps"), swept_words("new")) == ("CPU attention GB/s", "new")


def cell(column: str, ratio: float, *, significant: bool = True, higher: bool = True) -> MapCell:
    return MapCell(column, "a/b", ratio, significant, higher, f"apex {ratio}")


def test_a_map_colours_gains_whichever_way_is_up() -> None:
    cells = [cell("x", 2.0), cell("y", 2.0, higher=False), cell("z", 1.0)]
    colors = heat_map(cells, ["x", "y", "z"], ["a/b"], "", "")["data"][0]
    gain, loss, even = colors["z"][0]
    assert gain > 0 > loss
    assert (gain + loss, even) == (0.0, 0.0)
    assert (colors["zmin"], colors["zmax"]) == (pytest.approx(loss, abs=1e-4), -colors["zmin"])


def test_a_map_strikes_what_is_not_significant_and_writes_every_number() -> None:
    cells = [cell("x", 2.0), cell("y", 1.02, significant=False), cell("z", 1.9, significant=False)]
    figure = heat_map(cells, ["x", "y", "z"], ["a/b"], "", "")
    marks = [trace for trace in figure["data"] if trace.get("mode") == "markers"]
    assert sorted(x for trace in marks for x in trace["x"]) == ["y", "z"]
    texts = [trace for trace in figure["data"] if trace.get("mode") == "text"]
    inks = {x: trace["textfont"]["color"] for trace in texts for x in trace["x"]}
    assert inks.keys() == {"x", "y", "z"}
    assert inks["x"] != inks["y"]
    assert figure["layout"]["yaxis"]["categoryarray"] == ["a<br>b"]


def test_a_hole_in_a_map_stays_empty() -> None:
    figure = heat_map([cell("x", 1.1)], ["x", "y"], ["a/b", "c"], "", "")
    assert figure["data"][0]["z"] == [[pytest.approx(0.0953), None], [None, None]]
