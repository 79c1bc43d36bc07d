"""Which steps are kept op by op, and what is kept of them."""

from functools import partial

from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.sim import SimulatedExecutor
from apexbench.engine.executors.timelines import TimelineKeeper
from apexbench.engine.plan import CohortAction, CohortStep, StepPlan, StepResult, SubBatch
from apexbench.records import OpSpan, Request

GPU = SubBatch((), (1,), 10)
PAIR = (SubBatch((), (1,), 10, (2,), 5), SubBatch((), (), 0, (3,), 5))
NS = 1e-9


def result(plan: StepPlan) -> StepResult:
    return StepResult(plan.index * 10, plan.index * 10 + 10, ((1, 1),))


def span(index: int, lane: str = "gpu", start: int = 0) -> OpSpan:
    return OpSpan(index, lane, "launch", "A", 0, 1, start, start + 1)


def spans_at(index: int) -> list[OpSpan]:
    return [span(index)]


def test_a_kind_is_kept_at_growing_intervals() -> None:
    keeper = TimelineKeeper()
    plans = [StepPlan(index, (GPU,)) for index in range(20)]
    wanted = [plan.index for plan in plans if keeper.wants(plan, plan.strategy)]
    assert wanted == [0, 1, 3, 7, 15]


def test_the_newest_step_of_a_kind_wins() -> None:
    keeper = TimelineKeeper()
    for index in range(2):
        plan = StepPlan(index, (GPU,))
        assert keeper.wants(plan, plan.strategy)
        keeper.keep(plan, result(plan), partial(spans_at, index))
    assert [timeline.record.index for timeline in keeper.timelines()] == [1]


def test_the_most_frequent_strategy_comes_first() -> None:
    keeper = TimelineKeeper()
    for index, batches in enumerate([(GPU,), PAIR, PAIR, (GPU,), (GPU,)]):
        plan = StepPlan(index, batches)
        if keeper.wants(plan, plan.strategy):
            keeper.keep(plan, result(plan), partial(spans_at, index))
    assert [t.record.strategy for t in keeper.timelines()] == ["gpu_only", "two_batch"]


def test_spans_are_ordered_by_lane_and_time() -> None:
    keeper = TimelineKeeper()
    plan = StepPlan(0, (GPU,))
    assert keeper.wants(plan, plan.strategy)
    spans = [span(0, "gpu", 5), span(0, "cpu", 7), span(0, "gpu", 2)]
    keeper.keep(plan, result(plan), lambda: spans)
    (timeline,) = keeper.timelines()
    assert [(s.lane, s.start_ns) for s in timeline.spans] == [("cpu", 7), ("gpu", 2), ("gpu", 5)]


def executor() -> SimulatedExecutor:
    costs = FlatCosts(
        num_layers=3,
        linear_s=80 * NS,
        gpu_attention_s=20 * NS,
        head_s=10 * NS,
        cpu_attention_s_per_row=60 * NS,
        send_s=2 * NS,
        recv_s=2 * NS,
        schedule_s=5 * NS,
    )
    made = SimulatedExecutor(costs)
    for row in range(10):
        made.admit(Request(row, 0, 16, 100))
    return made


def test_a_recorded_step_holds_every_op_with_its_rows() -> None:
    made = executor()
    made.execute(StepPlan(0, PAIR), 0)
    (timeline,) = made.timelines
    kinds = [s.kind for s in timeline.spans]
    assert [kinds.count(kind) for kind in ("schedule", "embed", "attn_gpu", "head")] == [1, 1, 3, 1]
    assert [kinds.count(kind) for kind in ("send", "attn_cpu", "recv")] == [6, 6, 6]
    assert {(s.group, s.rows) for s in timeline.spans if s.kind == "attn_cpu"} == {
        ("A", 1),
        ("B", 1),
    }
    assert timeline.record.in_layer_rows == 2
    assert timeline.record.output_tokens == 3
    assert all(s.end_ns <= timeline.record.end_ns for s in timeline.spans)


def test_deferred_work_shows_up_in_the_step_in_which_it_runs() -> None:
    made = executor()
    enter = CohortStep(1, CohortAction.ENTER, 0, (7, 8), 30)
    made.execute(StepPlan(0, (GPU,), (enter,)), 0)
    (timeline,) = made.timelines
    work = [s for s in timeline.spans if s.lane == "cpu"]
    assert [(s.kind, s.group, s.rows, s.end_ns - s.start_ns) for s in work] == [
        ("attn_cpu", "c1", 2, 120)
    ]


def test_deferred_work_of_an_earlier_step_keeps_its_cohort() -> None:
    made = executor()
    slow = CohortStep(4, CohortAction.ENTER, 0, (7, 8, 9, 6, 5), 30)
    for index, plan in enumerate([StepPlan(0, (GPU,), (slow,)), StepPlan(1, PAIR)]):
        made.execute(plan, index * 290)
    work = [s for t in made.timelines if t.record.index == 1 for s in t.spans if s.lane == "cpu"]
    assert [(s.layer, s.rows) for s in work if s.group == "c4"] == [(0, 5)]
