"""The planner keeps up with the best other policy in every cell of a small grid.

The whole grid with draws of the true devices is `make grid`; its page is docs/planner-grid.md.
"""

import pytest

from apexbench.compare.pool import CellRunner, default_jobs
from tests.grid.cells import RIVALS, Score, Size, scores
from tests.grid.run import unexpected

SMALL = Size(backlog=400, online=400, seeds=1, draws=1, share_of_draw=0.5)
# The two cells of each GPU in which policies differ most; all eight pairs take minutes.
PAIRS = (("t4", "osc"), ("a10", "azure-conv"))


@pytest.fixture(scope="module")
def found() -> list[Score]:
    with CellRunner(default_jobs(), lambda _: None) as runner:
        return list(scores(SMALL, runner, PAIRS, RIVALS))


@pytest.mark.slow
def test_no_cell_is_missed_that_is_not_known(found: list[Score]) -> None:
    assert unexpected(found) == []
    assert {score.place.draw for score in found} == {None, 0}


@pytest.mark.slow
def test_at_saturation_the_tpot_target_is_kept(found: list[Score]) -> None:
    at_saturation = [s for s in found if s.place.load == "inf" and s.place.draw is None]
    assert at_saturation
    assert all(score.keeps_target for score in at_saturation)
