"""What any policy must honour, whatever it decides. Runs over every registered policy."""

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.costs import FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.base import Candidates, Choice, PolicyContext
from apexbench.engine.policies.registry import PolicyEntry, list_policies
from apexbench.engine.sequence import Tier
from apexbench.engine.thresholds import RANGES, Thresholds

T4_COSTS = deploy().costs()
FREE_COSTS = FlatCosts(num_layers=4)  # everything takes no time: nothing may divide by it
policies = pytest.mark.parametrize("entry", list_policies(), ids=lambda entry: entry.name)


class Row(NamedTuple):
    """All that a policy may read; anything else raises AttributeError."""

    id: int
    computed: int


@st.composite
def works(draw: st.DrawFn) -> Candidates:
    lengths = draw(st.lists(st.integers(1, 3000), max_size=40))
    rows = tuple(Row(100 + i, length) for i, length in enumerate(lengths))
    chunks = tuple(
        PrefillChunk(1000 + i, new, context, tier, context == 0)
        for i, (new, context, tier) in enumerate(
            draw(
                st.lists(
                    st.tuples(
                        st.integers(1, 900), st.sampled_from([0, 512]), st.sampled_from(list(Tier))
                    ),
                    max_size=4,
                )
            )
        )
    )
    gpu_rows = draw(st.sampled_from([0, 1, 7, 130]))
    cohorts = draw(st.integers(0, 3))
    return Candidates(
        *(chunks, gpu_rows, gpu_rows * draw(st.integers(1, 2000))),
        *(rows, sum(lengths) + len(lengths)),
        *(cohorts, cohorts * draw(st.integers(1, 30)), draw(st.integers(0, 40))),
    )


limits = st.builds(
    Thresholds,
    max_running_rows=st.sampled_from([8, 256]),
    min_cpu_rows=st.sampled_from([1, 5]),
    offload_gain_margin=st.sampled_from([0.0, 0.2]),
    max_deferred_cohorts=st.sampled_from([None, 1, 33, 256]),
    max_deferred_rows=st.sampled_from([None, 2]),
)


def placed(choice: Choice) -> tuple[int, ...]:
    return (*choice.in_layer_a, *choice.in_layer_b, *choice.enter)


def make(entry: PolicyEntry, thresholds: Thresholds, costs=T4_COSTS):
    return entry.make(PolicyContext(costs, thresholds))


@policies
@settings(max_examples=40, deadline=None)
@given(st.lists(works(), min_size=1, max_size=4), limits, st.booleans())
def test_choices_are_legal_and_repeatable(entry, steps, thresholds, is_free) -> None:
    costs = FREE_COSTS if is_free else T4_COSTS
    policy, twin = make(entry, thresholds, costs), make(entry, thresholds, costs)
    for work in steps:
        choice = policy.choose(work)
        rows = placed(choice)
        assert len(set(rows)) == len(rows), "a row was placed twice"
        assert set(rows) <= {row.id for row in work.cpu_rows}, "a row that is not free was placed"
        cpu_bound = {chunk.sequence for chunk in work.chunks if chunk.tier is Tier.CPU}
        assert set(choice.drops) <= cpu_bound, "only prompts bound for the host may be dropped"
        assert not choice.freezes_cohorts or not choice.promotes_cohorts
        assert choice.in_layer_b or not choice.in_layer_a or len(choice.in_layer_a) == len(rows)
        assert twin.choose(work) == choice, "equal work, another choice"


@policies
def test_nothing_to_do_is_legal(entry) -> None:
    nothing = Candidates((), 0, 0, (), 0, 0, 0, 0)
    assert placed(make(entry, Thresholds()).choose(nothing)) == ()


@policies
def test_a_policy_is_what_the_registry_says(entry) -> None:
    policy = make(entry, Thresholds())
    assert policy.name == entry.name
    assert policy.uses_cpu is entry.uses_cpu
    assert set(entry.thresholds) <= set(RANGES)


@policies
def test_cpu_rows_are_used_only_by_strategies_that_are_declared(entry) -> None:
    rows = tuple(Row(i, 400) for i in range(30))
    choice = make(entry, Thresholds()).choose(Candidates((), 7, 2800, rows, 30 * 401, 0, 0, 99))
    uses = {"two_batch": choice.in_layer_b, "deferred": choice.enter}
    uses["in_layer"] = () if choice.in_layer_b else choice.in_layer_a
    assert {name for name, ids in uses.items() if ids} <= set(entry.strategies)
