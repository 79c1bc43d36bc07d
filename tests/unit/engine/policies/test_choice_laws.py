"""Every law of a choice: who breaks it is named with the law, in a single choice and in a run."""

import re
from typing import NamedTuple

import pytest

from apexbench.engine.contract.drawn import Row
from apexbench.engine.costs import FlatCosts
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.base import GPU_ONLY, JOIN_ALL, Candidates, Choice, Limits
from apexbench.engine.policies.laws import ChoiceLaws, Law
from apexbench.engine.sequence import Tier
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.errors import PolicyError
from apexbench.records import Request, Workload

BAD = "tests.unit.engine.policies.bad_policies:"
LAYERS = 4


class Placed(NamedTuple):
    is_free: bool


IN_FLIGHT = {1: Placed(True), 2: Placed(True), 3: Placed(True), 4: Placed(False)}
CHUNKS = (
    PrefillChunk(50, 10, 0, Tier.GPU, is_last=True),
    PrefillChunk(51, 10, 0, Tier.CPU, is_last=True),
)


def check(choice, *, cohorts: int = 0, deferred: int = 0, defers: bool = True, **limits) -> None:
    laws = ChoiceLaws("mine", num_layers=LAYERS, thresholds=Thresholds(**limits), defers=defers)
    rows = tuple(Row(i, 10, 1, 0) for i in (1, 2, 3))
    work = Candidates(CHUNKS, 2, 40, rows, 33, cohorts, deferred, 9)
    laws.check(7, work, choice, IN_FLIGHT)


@pytest.mark.parametrize(
    "choice",
    [
        GPU_ONLY,
        JOIN_ALL,
        Choice(in_layer_a=(1, 2), in_layer_b=(3,)),
        Choice(in_layer_b=(3,)),  # a second batch beside none: the GPU's own work may be absent
        Choice(in_layer_a=(1,), enter=(2, 3), promotes_cohorts=True),
        Choice(drops=(51,), freezes_cohorts=True),
    ],
)
def test_legal_choices_pass(choice) -> None:
    check(choice, cohorts=LAYERS, deferred=4)


@pytest.mark.parametrize(
    ("choice", "law", "detail"),
    [
        (None, Law.ANSWERS, "it returned None"),
        ((), Law.ANSWERS, "it returned ()"),
        (Choice(in_layer_a=[1]), Law.IDS, "it returned Choice(in_layer_a=[1]"),  # type: ignore[arg-type]
        (Choice(drops=None), Law.IDS, "it returned"),  # type: ignore[arg-type]
        (Choice(enter=([1],)), Law.IDS, "it placed ([1],)"),  # type: ignore[arg-type]
        (Choice(in_layer_a=(1, 2, 1)), Law.ONE_PLACE, "it placed sequence 1 twice"),
        (Choice(in_layer_a=(1,), enter=(1,)), Law.ONE_PLACE, "it placed sequence 1 twice"),
        (Choice(in_layer_b=(9,)), Law.KNOWN, "it placed sequence 9"),
        (Choice(enter=(4,)), Law.FREE, "it placed sequence 4"),
        (Choice(drops=(50,)), Law.DROPS, "it dropped sequence 50"),
        (Choice(drops=(1,)), Law.DROPS, "it dropped sequence 1"),
        (Choice(freezes_cohorts=True, promotes_cohorts=True), Law.EITHER, "it asked for both"),
        (Choice(planning_ns=-1), Law.PLANNING, "it gave -1"),
        (Choice(planning_ns=1.5), Law.PLANNING, "it gave 1.5"),  # type: ignore[arg-type]
    ],
)
def test_illegal_choices_are_named(choice, law, detail) -> None:
    with pytest.raises(PolicyError) as caught:
        check(choice)
    assert str(caught.value).startswith(f"policy 'mine' broke a law in step 7: {law}; {detail}")
    assert len(str(caught.value).splitlines()) == 1


def test_cohorts_are_bounded_by_layers_declaration_and_memory() -> None:
    enter = Choice(enter=(1, 2))
    check(enter, cohorts=LAYERS, deferred=3, max_deferred_rows=5)
    with pytest.raises(PolicyError, match=r"at most L \+ 1 cohorts .* another one beside 5"):
        check(enter, cohorts=LAYERS + 1, deferred=5)
    with pytest.raises(PolicyError, match="it deferred 2 rows beside 4, of at most 5"):
        check(enter, deferred=4, cohorts=1, max_deferred_rows=5)
    with pytest.raises(PolicyError, match="it deferred 2 rows beside 7, of at most 8"):
        check(enter, deferred=7, cohorts=1, max_running_rows=8)
    with pytest.raises(PolicyError, match="only a policy with defers = True defers"):
        check(enter, defers=False)


@pytest.mark.parametrize(
    ("limits", "law"),
    [
        (None, Law.PACES),
        ((5, None), Law.PACES),
        (Limits(-1, None), Law.PACES),
        (Limits(5, -1), Law.PACES),
        (Limits(2.5, None), Law.PACES),  # type: ignore[arg-type]
        (Limits(0, None), Law.ADMITS),
    ],
)
def test_illegal_limits_are_named(limits, law) -> None:
    laws = ChoiceLaws("mine", num_layers=LAYERS, thresholds=Thresholds(), defers=True)
    with pytest.raises(PolicyError, match=re.escape(f"in step 7: {law}; it ")):
        laws.check_limits(7, limits, is_idle=True)


@pytest.mark.parametrize(("limits", "is_idle"), [(Limits(1, 0), True), (Limits(0, None), False)])
def test_legal_limits_pass(limits, is_idle) -> None:
    laws = ChoiceLaws("mine", num_layers=LAYERS, thresholds=Thresholds(), defers=True)
    laws.check_limits(7, limits, is_idle=is_idle)


def run_of(policy: str) -> SimulationSpec:
    """Eight requests on a GPU that holds two: the others go to the host, several at a time."""
    requests = tuple(Request(i, 0, 16, 30) for i in range(8))
    costs = FlatCosts(
        num_layers=LAYERS, linear_s=1e-3, gpu_attention_s=1e-4, cpu_attention_s_per_row=1e-5
    )
    limits = Thresholds(max_deferred_rows=2 if policy == "TooManyRows" else None)
    workload = Workload("w", requests, "", "made up")
    return SimulationSpec(
        workload=workload,
        policy=BAD + policy,
        belief=costs,
        truth=costs,
        pools=Pools(96, 400, 8, 8),
        thresholds=limits,
    )


@pytest.mark.parametrize(
    ("policy", "law"),
    [
        ("Twice", Law.ONE_PLACE),
        ("Unknown", Law.KNOWN),
        ("NotFree", Law.FREE),
        ("TooManyCohorts", Law.COHORTS),
        ("TooManyRows", Law.SLOTS),
        ("DefersUndeclared", Law.DECLARED),
        ("DropsAnything", Law.DROPS),
        ("FreezesAndPromotes", Law.EITHER),
        ("ReturnsNothing", Law.ANSWERS),
        ("ReturnsLists", Law.IDS),
        ("ReturnsUnhashable", Law.IDS),
        ("ReturnsRows", Law.KNOWN),
        ("Raises", Law.ANSWERS),
        ("PacesBadly", Law.PACES),
        ("NeverAdmits", Law.ADMITS),
        ("RaisesInLimits", Law.PACES),
    ],
)
def test_a_run_ends_at_the_first_illegal_choice(policy, law) -> None:
    with pytest.raises(PolicyError) as caught:
        simulate(run_of(policy))
    assert f": {law}; " in str(caught.value)
    assert "broke a law in step " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_policy_raises_is_named_with_its_place() -> None:
    with pytest.raises(PolicyError, match=r"it raised ZeroDivisionError: .* \(bad_policies.py, "):
        simulate(run_of("Raises"))
