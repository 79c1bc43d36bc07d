"""The pace of prompts and the number of sequences on the host."""

from typing import Any

import pytest

from apexbench.engine.deployment import deploy
from apexbench.engine.policies.base import Candidates, Finished, Limits, Targets, Traffic
from apexbench.engine.policies.forecast import Forecast, Placed
from apexbench.engine.policies.pacing import BUDGETS, Pace, Planned, Tempo
from apexbench.records import NS_PER_S

FORECAST = Forecast(deploy().costs())
QUIET = Traffic(0, 0, 0, 0, 0, 0, 0, 0, 0, ())
TPOT_S = 0.2


def planned(*, gpu_rows: int = 6, rows: int = 0, extra_tok_s: float = 100.0) -> Planned:
    """`extra_tok_s`: what CPU rows could add to the GPU's own tokens."""
    work = Candidates((), gpu_rows, gpu_rows * 400, (), 0, 0, 0, 1)
    ground = FORECAST.ground(work, (), 400.0)
    placed = Placed(0, rows) if rows else Placed()
    step_ns = FORECAST.step_ns(ground, placed)
    tokens = float(gpu_rows + rows)
    potential = gpu_rows + extra_tok_s / NS_PER_S * step_ns
    return Planned(ground, placed, step_ns, step_ns, tokens, potential)


def ended(count: int, *, prompt: int = 400, output: int = 41, tpot_s: float = 0.1) -> Traffic:
    one = Finished(prompt, output, 0, int((output - 1) * tpot_s * NS_PER_S))
    return QUIET._replace(finished=(one,) * count)


TARGETS = Targets(5.0, TPOT_S)


def pace(targets: Targets = TARGETS, most: int = 2048) -> Pace:
    made = Pace(FORECAST, targets, most)
    made.note(planned(), 0)
    return made


def most_on_host(made: Pace, traffic: Traffic = QUIET) -> int:
    found = made.limits(traffic).max_on_host
    assert found is not None
    return found


def test_means_follow_what_is_planned() -> None:
    tempo = Tempo()
    assert (tempo.step_ns, tempo.price, tempo.potential_per_ns) == (0, 0, 0)
    tempo.note(planned())
    assert tempo.step_ns == pytest.approx(planned().step_ns)
    for _ in range(1000):
        tempo.note(planned(gpu_rows=12))
    assert tempo.gpu_rows == pytest.approx(12, rel=1e-3)
    assert tempo.step_ns_with(tempo.step_ns) == pytest.approx(tempo.step_ns)


def test_without_a_target_the_host_is_limited_by_memory_alone() -> None:
    assert pace(Targets()).limits(QUIET).max_on_host is None


def test_the_host_takes_what_it_can_serve_in_time() -> None:
    # R = target * X: at 100 more tokens/s, 0.2 s per token are 20 sequences.
    made = pace()
    for _ in range(40):
        made.limits(ended(20))  # all in time: the share grows to all of the bound
    assert most_on_host(made) == 20


def test_requests_that_miss_shrink_it_and_others_let_it_grow() -> None:
    made = pace()
    for _ in range(10):
        made.limits(ended(20))
    before = most_on_host(made)
    assert most_on_host(made, ended(10, tpot_s=0.3)) < before
    assert most_on_host(made, ended(400)) >= before


def test_one_miss_in_ten_is_too_many_and_one_in_forty_is_not() -> None:
    for ratio, is_growing in ((9, False), (39, True)):
        made = pace()
        before = most_on_host(made)
        for _ in range(20):
            made.limits(ended(ratio))
            made.limits(ended(1, tpot_s=0.3))
        assert (most_on_host(made) >= before) is is_growing


def test_nobody_new_while_too_many_are_late() -> None:
    made = pace()
    made.limits(ended(400))
    free = QUIET._replace(num_on_host=3)
    assert most_on_host(made, free) > 3
    made.note(planned(), 3)
    assert most_on_host(made, free) == 3


def test_the_head_is_rescued_while_somebody_behind_it_is_in_time() -> None:
    waiting = QUIET._replace(
        num_waiting=5, waiting_tokens=2000, head_tokens=400, head_wait_ns=4 * NS_PER_S
    )
    made = pace()
    assert made.limits(waiting).max_on_host is None
    hopeless = waiting._replace(newest_wait_ns=6 * NS_PER_S)
    assert made.limits(hopeless).max_on_host is not None
    early = waiting._replace(head_wait_ns=0)
    assert made.limits(early).max_on_host is not None


def budget(made: Pace, **changes: Any) -> int:
    queue: dict[str, Any] = {"num_waiting": 50, "waiting_tokens": 12800, "head_tokens": 400}
    found: Limits = made.limits(QUIET._replace(**(queue | changes)))
    return found.max_prefill_tokens


def test_prompts_keep_up_with_the_rows_that_finish() -> None:
    """400 tokens in, 41 out, 6 rows: 59 prompt tokens per step; where nobody can be in time the
    portion is near that, far from whole prompts.
    """
    made = pace()
    made.limits(ended(20))
    late = 100 * NS_PER_S
    assert budget(made, head_wait_ns=late, newest_wait_ns=late) in BUDGETS[:4]


def test_prompts_that_can_be_in_time_are_not_kept_waiting() -> None:
    late = 100 * NS_PER_S
    portions = []
    for waited_ns in (late, 0):
        made = pace(Targets(1.0, 2.0))
        made.limits(ended(20))
        waits = {"head_wait_ns": waited_ns, "newest_wait_ns": waited_ns}
        portions.append(budget(made, **waits))
    assert portions[0] < portions[1]


def test_a_portion_is_kept_for_some_steps() -> None:
    made = pace(Targets(1.0, 2.0))
    made.limits(ended(20))
    late = {"head_wait_ns": 100 * NS_PER_S, "newest_wait_ns": 100 * NS_PER_S}
    first = budget(made, **late)
    later = [budget(made, free_gpu_tokens=4000) for _ in range(4)]
    assert later[:3] == [first] * 3
    assert later[3] > first


def test_long_prompts_with_short_answers_are_not_cut_small() -> None:
    """While a prompt is computed its blocks decode nothing."""
    made, short = pace(), pace()
    made.limits(ended(20, prompt=2000, output=28))
    short.limits(ended(20, prompt=200, output=28))
    late = {"head_wait_ns": 100 * NS_PER_S, "newest_wait_ns": 100 * NS_PER_S}
    assert budget(made, **late) > budget(short, **late)


def test_a_portion_stays_within_the_threshold_and_the_target() -> None:
    assert budget(pace(most=100)) == 100
    strict = pace(Targets(5.0, 0.08))
    strict.limits(ended(20))
    relaxed = pace(Targets(5.0, 2.0))
    relaxed.limits(ended(20))
    assert budget(strict, free_gpu_tokens=9000) < budget(relaxed, free_gpu_tokens=9000)
    assert strict.keeps_targets(0.07 * NS_PER_S)
    assert not strict.keeps_targets(0.07 * NS_PER_S, steps_per_token=33)
