"""Records of hand-made steps: times, token gaps, running totals."""

from apexbench.engine.blocks import BlockPool
from apexbench.engine.books import Ended
from apexbench.engine.costs import FlatCosts
from apexbench.engine.plan import PrefillChunk, StepPlan, StepResult, SubBatch
from apexbench.engine.policies.base import PolicyContext
from apexbench.engine.policies.gpu_only import GpuOnly
from apexbench.engine.recorder import MAX_CHECKPOINTS, Recorder
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.sequence import Sequence, Tier
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.records import Request, RequestStatus


class Meter:
    busy_ns = (1, 2, 3, 4, 5)
    overlap_ns = 6
    idle_ns = (7, 8, 9, 10)
    timelines = ()


def idle_scheduler() -> Scheduler:
    policy = GpuOnly(PolicyContext(FlatCosts(num_layers=1), Thresholds()))
    memory = KvMemory(BlockPool(4, 4), None, 0.0)
    return Scheduler(policy=policy, memory=memory, thresholds=Thresholds(), num_layers=1)


PROMPT = StepPlan(0, (SubBatch(chunks=(PrefillChunk(0, 5, 0, Tier.GPU, True),)),))
DECODE = StepPlan(1, (SubBatch(gpu_rows=(0,), gpu_kv_tokens=6),))


def step(recorder: Recorder, plan: StepPlan, start: int, end: int, *rows: int) -> None:
    tokens = tuple((row, 1) for row in rows)
    recorder.on_step(plan, plan.strategy, StepResult(start, end, tokens), idle_scheduler())


def finished(request: Request, generated: int) -> Ended:
    sequence = Sequence(request, 0)
    sequence.generated = generated
    return Ended(sequence, RequestStatus.COMPLETED, None)


def test_a_life_is_recorded_with_its_scheduled_arrival() -> None:
    recorder, request = Recorder(Meter()), Request(0, 100, 5, 3)
    recorder.on_arrival(request, 100)
    step(recorder, PROMPT, 250, 1000, 0)
    step(recorder, DECODE, 1000, 3000, 0)
    step(recorder, DECODE, 3000, 5000, 0)
    recorder.on_end(finished(request, 3), 5000)
    [record] = recorder.records()
    times = (record.arrival_ns, record.start_ns, record.first_token_ns, record.end_ns)
    assert times == (100, 250, 1000, 5000)
    assert (record.output_tokens, recorder.num_completed) == (3, 1)
    [gap], [count] = recorder.token_gaps().gap_ns, recorder.token_gaps().counts
    assert count == 2
    assert abs(gap / 2000 - 1) < 0.005


def test_gaps_span_steps_in_which_a_row_got_no_token() -> None:
    recorder = Recorder(Meter())
    recorder.on_arrival(Request(0, 0, 5, 9), 0)
    recorder.on_arrival(Request(1, 0, 5, 9), 0)
    step(recorder, PROMPT, 0, 1000, 0, 1)
    step(recorder, DECODE, 1000, 2000, 0)
    step(recorder, DECODE, 2000, 3000, 0, 1)
    gaps = recorder.token_gaps()
    assert [round(gap, -2) for gap in gaps.gap_ns] == [1000, 2000]
    assert gaps.counts == (2, 1)


def test_checkpoints_are_thinned_out_and_keep_their_order() -> None:
    recorder = Recorder(Meter())
    recorder.on_arrival(Request(0, 0, 5, 10**6), 0)
    recorder.checkpoint(0, idle_scheduler())
    for index in range(5 * MAX_CHECKPOINTS):
        step(recorder, DECODE, index, index + 1, 0)
    points = recorder.checkpoints()
    assert MAX_CHECKPOINTS // 2 <= len(points) <= MAX_CHECKPOINTS
    times = [point.time_ns for point in points]
    assert times == sorted(set(times))
    assert times[0] == 0
    assert all(point.output_tokens == point.time_ns for point in points)
    assert sum(points[-1].strategy_steps) == times[-1]


def test_who_never_arrived_is_unfinished() -> None:
    recorder = Recorder(Meter())
    recorder.on_never_sent(Request(3, 77, 5, 9))
    [record] = recorder.records()
    assert (record.status, record.arrival_ns, record.start_ns) == (
        *(RequestStatus.UNFINISHED, 77, None),
    )
    assert record.reason
