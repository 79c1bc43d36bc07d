"""What any policy must honour, whatever it decides: the suite, over every registered policy."""

import numpy as np
import pytest

from apexbench.engine.contract.drawn import Row, t4_costs
from apexbench.engine.contract.suite import LAWS, first_breach
from apexbench.engine.policies.base import Candidates, Choice, PolicyContext
from apexbench.engine.policies.entry import PolicyEntry
from apexbench.engine.policies.registry import find_policy, list_policies
from apexbench.engine.thresholds import RANGES, Thresholds

NUM_SEEDS = 25
BAD = "tests.unit.engine.policies.bad_policies:"

policies = pytest.mark.parametrize("entry", list_policies(), ids=lambda entry: entry.name)
laws = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.check.__name__)


def make(entry: PolicyEntry):
    return entry.make(PolicyContext(t4_costs(), Thresholds()))


def placed(choice: Choice) -> tuple[int, ...]:
    return (*choice.in_layer_a, *choice.in_layer_b, *choice.enter)


@laws
@policies
def test_every_law_holds(entry, law) -> None:
    assert first_breach(entry, law, range(NUM_SEEDS)) is None


@policies
def test_nothing_to_do_is_legal(entry) -> None:
    nothing = Candidates((), 0, 0, (), 0, 0, 0, 0)
    assert placed(make(entry).choose(nothing)) == ()


@policies
def test_a_policy_is_what_the_registry_says(entry) -> None:
    policy = make(entry)
    assert policy.name == entry.name
    assert policy.uses_cpu is entry.uses_cpu
    assert set(entry.thresholds) <= set(RANGES)


@policies
def test_cpu_rows_are_used_only_by_strategies_that_are_declared(entry) -> None:
    rows = tuple(Row(i, 400, 1, 0) for i in range(30))
    choice = make(entry).choose(Candidates((), 7, 2800, rows, 30 * 401, 0, 0, 99))
    uses = {"two_batch": choice.in_layer_b, "deferred": choice.enter}
    uses["in_layer"] = () if choice.in_layer_b else choice.in_layer_a
    assert {name for name, ids in uses.items() if ids} <= set(entry.strategies)


# -- the suite finds what is wrong -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "law", "said"),
    [
        ("Twice", "legal", "a row has one place per step"),
        ("Twice", "served", "a row has one place per step"),
        ("Unknown", "legal", "only sequences in flight are placed"),
        ("NotFree", "served", "only free CPU rows are placed"),
        ("NotFree", "cancelled", "only "),
        ("TooManyCohorts", "legal", "no more rows are deferred"),
        ("TooManyRows", "legal", "no more rows are deferred"),
        ("DefersUndeclared", "legal", "only a policy with defers = True defers"),
        ("DropsAnything", "legal", "bound for the host are dropped"),
        ("FreezesAndPromotes", "legal", "not both"),
        ("ReturnsNothing", "legal", "choose() returns a Choice; it returned None"),
        ("Raises", "legal", "it raised ZeroDivisionError"),
        ("ReadsMore", "legal", "it raised AttributeError"),
        ("Changes", "legal", "it raised AttributeError"),
        ("DrawsAtRandom", "legal", "made again and shown the same"),
        ("PacesBadly", "served", "limits() returns Limits"),
        ("NeverAdmits", "served", "limits() lets a prompt in"),
        ("RemembersRuns", "repeated", "in an equal run"),
        ("DrawsAtRandom", "blind", "it knows output lengths, or draws at random"),
    ],
)
def test_a_bad_policy_is_found_out_and_the_seed_repeats_it(policy, law, said) -> None:
    entry = find_policy(BAD + policy)
    (tried,) = [each for each in LAWS if each.check.__name__ == law]
    breach = first_breach(entry, tried, range(NUM_SEEDS))
    assert breach is not None
    assert said in breach.sentence
    assert breach.law == tried.name
    if policy not in ("DrawsAtRandom", "RemembersRuns"):  # no seed repeats what is not repeatable
        assert first_breach(entry, tried, [breach.seed]) == breach


def test_drawn_runs_reach_every_part_of_the_scheduler() -> None:
    """Otherwise a suite that passes says little."""
    from apexbench.engine.contract import drawn
    from apexbench.engine.simulate import simulate

    seen: set[str] = set()
    for seed in range(NUM_SEEDS):
        spec = drawn.spec(np.random.default_rng(seed), "static:deferred")

        def note(plan, result, scheduler):
            seen.add(plan.strategy)
            seen.update(chunk.tier for chunk in plan.batches[0].chunks)
            if plan.swap_in_tokens or plan.swap_out_tokens:
                seen.add("swap")

        log = simulate(spec, observers=(note,))
        seen.update(record.status for record in log.requests)
        seen.update("preempted" for record in log.requests if record.preemptions)
    assert seen >= {"gpu_only", "in_layer", "deferred", "gpu", "cpu", "swap", "preempted"}
    assert seen >= {"completed", "rejected"}
