"""The planner keeps up with the best other policy in every cell of a small grid, draws included.

The whole grid is `make grid`; its page is docs/planner-grid.md.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from apexbench.compare.pool import CellRunner, default_jobs
from tests.grid import page, run
from tests.grid.cells import LOADS, SATURATION, Place, Score, Size, scores, scores_of
from tests.grid.known import Known

# The pair of each GPU in which policies differ most; all eight take minutes.
BACKLOG = {("t4", "osc"): 400, ("a10", "azure-conv"): 400}
SMALL = Size(BACKLOG, online=400, seeds=1, draws=())
# Of the whole grid's size, so that they give what its page says.
DRAWS = ((("t4", "osc"), 0), (("t4", "osc"), 3), (("a10", "azure-conv"), 1))

CELL = ("t4", "osc", "1x")
WON = Score(Place(*CELL), 10.0, 5.0, "neo", 10.0, 0.1, 0.4, is_steady=True)


@pytest.fixture(scope="module")
def runner() -> Iterator[CellRunner]:
    with CellRunner(default_jobs(), lambda _: None) as found:
        yield found


@pytest.fixture(scope="module")
def found(runner: CellRunner) -> list[Score]:
    return list(scores(SMALL, runner))


@pytest.mark.slow
def test_every_cell_is_won(found: list[Score]) -> None:
    assert [score for score in found if not score.is_won] == []
    assert len(found) == len(BACKLOG) * len(LOADS)


@pytest.mark.slow
@pytest.mark.parametrize(("pair", "draw"), DRAWS)
def test_draws_are_won(runner: CellRunner, pair: tuple[str, str], draw: int) -> None:
    """Other true devices than the policies believe in; none of these is a known miss."""
    drawn_scores = list(scores_of(run.FULL, pair, draw, runner))
    assert [score for score in drawn_scores if not score.is_won] == []
    assert len(drawn_scores) == len(LOADS)


@pytest.mark.slow
def test_at_saturation_the_tpot_target_is_kept(found: list[Score]) -> None:
    at_saturation = [score for score in found if score.place.load == SATURATION]
    assert at_saturation
    assert all(score.keeps_target for score in at_saturation)


def drawn(*ours: float) -> list[Score]:
    """A cell that is won, and draws in which the planner gives this much."""
    places = [Place(*CELL, draw) for draw in range(len(ours))]
    return [WON, *(replace(WON, place=p, ours=o) for p, o in zip(places, ours, strict=True))]


def test_a_lost_cell_is_a_miss() -> None:
    assert run.unexpected([WON]) == []
    [line] = run.unexpected([replace(WON, ours=9.7)])
    assert line == ("t4 osc 1x profiles: 0.970 of neo, 1.940 of gpu-only; 0 known, from 0.98")


def test_below_gpu_only_is_a_miss_too() -> None:
    assert run.unexpected([replace(WON, ours=9.85, baseline=10.0)])


def test_a_known_cell_may_not_become_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "KNOWN_MISSES", {CELL: Known(1, 0.94, "why")})
    assert run.unexpected([replace(WON, ours=9.5)]) == []
    assert run.unexpected([replace(WON, ours=9.3)])


def test_known_draws_may_not_become_more_or_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "KNOWN_DRAWS", {})
    assert run.unexpected(drawn(10.0, 9.9)) == []
    assert len(run.unexpected(drawn(10.0, 9.5))) == 1
    monkeypatch.setattr(run, "KNOWN_DRAWS", {CELL: Known(1, 0.94, "why")})
    assert run.unexpected(drawn(10.0, 9.5)) == []
    assert len(run.unexpected(drawn(9.5, 9.5))) == 2
    [line] = run.unexpected(drawn(10.0, 9.3))
    assert line.startswith("t4 osc 1x draw 1: 0.930 of neo")


def test_the_page_lists_misses_with_their_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "KNOWN_DRAWS", {CELL: Known(1, 0.94, "a slow CPU")})
    text = page.page(drawn(10.0, 9.5), SMALL)
    assert "| t4 osc 1x | 1 of 2 draws | 0.950 | 1, 0.940 | a slow CPU |" in text
    assert "Won under draws: 1 of 2 cells." in text
    assert "Under draws: below 0.99 of gpu-only in 0 of 2; lowest 1.900, t4 osc 1x." in text
    monkeypatch.setattr(page, "KNOWN_DRAWS", {})
    assert "**unknown**" in page.page(drawn(9.5), SMALL)
