"""Runs that check themselves do look: at plans, at the books, and at every record."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from apexbench.engine.contract import checked, drawn
from apexbench.engine.contract.checked import check_records, check_served, run_checked
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.errors import InvariantError
from apexbench.records import RequestRecord, RequestStatus, RunLog


def spec(seed: int = 1, policy: str = "static:deferred") -> SimulationSpec:
    return drawn.spec(np.random.default_rng(seed), policy)


@pytest.fixture(scope="module")
def run() -> tuple[SimulationSpec, RunLog]:
    found = spec()
    log = simulate(found)
    assert log.requests[0].status is RequestStatus.COMPLETED
    assert log.requests[0].output_tokens > 1
    return found, log


def changed(log: RunLog, **values: object) -> RunLog:
    """The first request's record with other values."""
    first, *others = log.requests
    return replace(log, requests=(replace(first, **values), *others))  # type: ignore[arg-type]


@pytest.mark.parametrize("law", ["check", "check_plan"])
def test_every_step_is_looked_at(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(checked, law, lambda *given: calls.append(given))
    log = run_checked(spec())
    assert len(calls) >= log.num_steps


def test_a_run_without_end_is_a_broken_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "MAX_CALLS", 5)
    with pytest.raises(InvariantError, match="still in flight after 5 steps"):
        run_checked(spec())


Change = Callable[[RequestRecord], dict[str, object]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: {"id": 99}, "not one per request"),
        (lambda r: {"prompt_tokens": r.prompt_tokens + 1}, "wrong number of tokens"),
        (lambda r: {"output_tokens": r.output_tokens - 1}, "wrong number of tokens"),
        (lambda r: {"cpu_decode_tokens": r.output_tokens + 1}, "wrong number of tokens"),
        (lambda r: {"start_ns": r.end_ns + 1}, "out of order"),
        (lambda r: {"start_ns": None}, "is completed and has no"),
        (lambda r: {"status": RequestStatus.FAILED}, "is failed without a reason"),
        (lambda r: {"status": RequestStatus.FAILED, "reason": "x"}, "totals differ"),
    ],
)
def test_wrong_records_are_found(
    change: Change, said: str, run: tuple[SimulationSpec, RunLog]
) -> None:
    found, log = run
    check_records(found, log)
    with pytest.raises(InvariantError, match=said):
        check_records(found, changed(log, **change(log.requests[0])))


def test_a_request_that_fits_and_is_not_served_is_found(run: tuple[SimulationSpec, RunLog]) -> None:
    found, log = run
    check_served(found, log)
    with pytest.raises(InvariantError, match=r"though a pool holds .*: forgotten"):
        check_served(found, changed(log, status=RequestStatus.UNFINISHED, reason="forgotten"))


def test_a_seed_repeats_what_is_drawn_and_another_does_not() -> None:
    assert spec(3) == spec(3)
    assert spec(3) != spec(4)


def test_other_outputs_change_nothing_else() -> None:
    found = spec()
    other = drawn.with_other_outputs(np.random.default_rng(5), found)
    assert other != found
    outputs = [request.output_tokens for request in found.workload.requests]
    requests = zip(other.workload.requests, outputs, strict=True)
    restored = tuple(replace(request, output_tokens=tokens) for request, tokens in requests)
    assert replace(other, workload=replace(other.workload, requests=restored)) == found
