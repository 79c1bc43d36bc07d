"""One lane: urgent work in order, deferrable work in the time left, and what may be asked of it."""

from apexbench.engine.executors.lanes import Gpu, Lane
from apexbench.engine.step_ops import OpTemplate

TAG = (OpTemplate("offload", "d2h", "A", (), "offload"), 0)


def test_urgent_ops_run_in_order_of_issue() -> None:
    lane = Lane()
    assert lane.run(10, 5) == 15
    assert lane.run(0, 5) == 20  # ready long ago, but behind the first
    assert lane.busy == 10


def test_deferrable_work_takes_gaps_and_gives_way() -> None:
    lane = Lane()
    slices: list[tuple[int, int]] = []
    lane.sink = lambda _job, start, end: slices.append((start, end))
    job = lane.submit(0, 10, TAG)
    assert lane.run(4, 3) == 7
    assert lane.finish(job) == 13
    assert slices == [(0, 4), (7, 13)]
    assert lane.busy == 13


def test_jobs_are_first_come_first_served_even_if_a_later_one_arrived_before() -> None:
    lane = Lane()
    first, second = lane.submit(20, 5, TAG), lane.submit(0, 5, TAG)
    assert lane.finish(second) == 30
    assert first.finish == 25


def test_a_job_that_has_not_arrived_leaves_the_gap_unused() -> None:
    lane = Lane()
    job = lane.submit(8, 4, TAG)
    lane.run(6, 2)
    assert lane.finish(job) == 12


def test_a_job_without_work_is_done_when_it_is_reached() -> None:
    lane = Lane()
    job = lane.submit(5, 0, TAG)
    assert not lane.is_done(job, 4)
    assert lane.is_done(job, 5)
    assert lane.finish(job) == 5


def test_urgent_work_of_the_same_instant_goes_before_a_job_without_work() -> None:
    lane = Lane()
    job = lane.submit(5, 0, TAG)
    lane.run(5, 3)
    assert lane.finish(job) == 8


def test_asking_for_the_expected_finish_decides_nothing() -> None:
    lane = Lane()
    lane.submit(0, 10, TAG)
    job = lane.submit(0, 10, TAG)
    assert lane.expected_finish(job) == 20
    lane.run(5, 7)  # comes later and still goes first
    assert lane.expected_finish(job) == 27
    assert lane.finish(job) == lane.expected_finish(job) == 27


def test_is_done_looks_no_further_than_now() -> None:
    lane = Lane()
    job = lane.submit(0, 10, TAG)
    assert not lane.is_done(job, 9)
    lane.run(9, 4)
    assert not lane.is_done(job, 13)
    assert lane.is_done(job, 14)


def test_a_job_issued_late_fits_into_idle_time_that_urgent_ops_passed_over() -> None:
    lane = Lane()
    lane.holes = []
    lane.run(10, 5)  # idle before 10
    lane.run(20, 5)  # idle from 15 to 20
    first, second = lane.submit(4, 8, TAG), lane.submit(0, 5, TAG)
    assert first.finish == 17  # 4 to 10 and 15 to 17
    assert lane.finish(second) == 27  # 17 to 20 and 25 to 27


def test_busy_within_counts_each_interval_once() -> None:
    lane = Lane(remembers_busy=True)
    lane.run(0, 10)
    lane.run(15, 10)
    assert lane.busy_within(5, 18) == 5 + 3
    assert lane.busy_within(18, 30) == 7
    assert lane.busy_within(30, 40) == 0


def test_gpu_splits_time_into_work_and_idle_time_by_reason() -> None:
    cpu = Lane(remembers_busy=True)
    gpu = Gpu(cpu, 2)
    gpu.free = 10
    cpu.run(0, 14)
    gpu.idle_until(20, 1)
    gpu.free += 5
    assert (gpu.busy, gpu.idle, gpu.cpu_in_idle) == (15, [0, 10], 4)
