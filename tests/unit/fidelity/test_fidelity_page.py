"""The page, and what counts as missed."""

from dataclasses import replace

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.emulated.int_log import CpuJob, IntLog, StepFact
from apexbench.engine.executors.emulated.lateness import Lateness
from apexbench.engine.running import RunSpec
from apexbench.engine.tiers import Pools
from apexbench.records import RequestRecord, RequestStatus, RunLog, Workload
from tests.fidelity.cases import CASES
from tests.fidelity.choices import Agreement
from tests.fidelity.compare import Compared, Error
from tests.fidelity.page import page
from tests.fidelity.record import Recorded
from tests.fidelity.run import main
from tests.fidelity.terms import Line, Terms

S = 1_000_000_000
SERVED = RequestRecord(0, RequestStatus.COMPLETED, 5, 11, 0, 0, 1 * S, 2 * S, 0, 0, 0)
TERMS = Terms(Line(300.0, 5.0), Line(200.0, 0.0), 60_000, 1.25)


def recorded(*, status: RequestStatus = RequestStatus.COMPLETED) -> Recorded:
    log = RunLog((SERVED, replace(SERVED, id=1, status=status)), (), None, (), 0, 0, 0, 0)  # type: ignore[arg-type]
    spec = RunSpec(
        workload=Workload("", (), "", ""),
        policy="apex",
        belief=FlatCosts(num_layers=1),
        pools=Pools(16, 0),
    )
    return Recorded(
        *(CASES[0], "apex", spec, log, [], [], []),
        *(IntLog(CpuJob).rows(), IntLog(StepFact).rows()),
        *(Lateness(10, 1_000, 250_000, 300_000), (30.0, 29.5)),
    )


def compared(**changes: object) -> Compared:
    none = Error(0.0, 0.0)
    found = Compared(
        *(recorded(), Error(0.04, -0.09), none, Agreement(100, 96), Agreement(100, 80)),
        *(Error(0.2, -0.1), Error(0.01, -0.02)),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"replayed": Error(0.051, 0.0)},
        {"replayed": Error(-0.051, 0.0)},
        {"replayed": Error(0.0, -0.101)},
        {"choices": Agreement(100, 94)},
        {"recorded": recorded(status=RequestStatus.FAILED)},
    ],
)
def test_what_is_out_of_bounds_is_missed(changes: dict[str, object]) -> None:
    assert compared().is_kept
    assert not compared(**changes).is_kept


def test_free_runs_have_no_bound() -> None:
    assert compared(free=Error(3.0, 3.0), told_modelled=Agreement(100, 0)).is_kept


def test_the_page_has_every_run_with_its_circumstances() -> None:
    busy = replace(recorded(), disturbance="other processes took 50% of the CPUs")
    found = [compared(), compared(recorded=busy, replayed=Error(0.06, 0.0))]
    text = page(found, TERMS, 31.0, {"Host": "a machine"})
    assert "- Host: a machine" in text
    assert "300 us + 5.0 us per layer" in text
    row = "| osc (seen) | apex | 11.0 | 100.0 ms | +4.0% / -9.0% | 96.0% of 100 (80%) |"
    assert row + " +20.0% / -10.0% | +1.0% / -2.0% | 30.0, 29.5 | 250 us |  |" in text
    assert "**missed**, busy |" in text
    assert "Within their bounds: 1 of 2 runs; 1 while it was busy." in text


def test_terms_need_a_run_that_may_be_seen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--cases", "whole"])
    assert "seen workload" in capsys.readouterr().err
