"""Runs in real time: in turn, one at a time, measured, believed or not, and ended between steps."""

from dataclasses import replace

import pytest

from apexbench.compare.cells import Cell
from apexbench.compare.pool import Batch, Extent, Loaded
from apexbench.compare.realtime.run import Tick, Watching, pools_for, run_real_cell
from apexbench.compare.realtime.runner import RealTimeRunner, in_turn
from apexbench.compare.realtime.trust import MAX_LATE_SHARE
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import InputError
from apexbench.result import Run, Spread
from tests.unit.compare.realtime.conftest import FakeBench, FakeWatch


def run_of(cell: Cell, bench: FakeBench, reason: str | None = None) -> Run:
    watching = Watching(lambda _: None, lambda: FakeWatch(reason))
    return run_real_cell(cell, bench, "emulated", watching).run


def test_a_run_says_what_it_is_and_what_was_predicted(
    cells: tuple[Cell, ...], bench: FakeBench
) -> None:
    run = run_of(cells[2], bench)
    assert (run.variant, run.backend) == ("apex", "emulated")
    assert run.metrics.completed == 12
    measured = run.measured
    assert measured is not None
    assert measured.is_trustworthy
    assert measured.cpu_threads == 1
    assert measured.host_kv_tokens_limit == 4096
    assert measured.lane_cpu_s == {"cpu": 0.005}
    assert measured.lane_prediction_error["step"] == pytest.approx(0, abs=1e-3)
    assert measured.lane_predicted_s["gpu"] == pytest.approx(measured.lane_measured_s["gpu"])
    assert measured.python_s_per_step is not None
    assert measured.python_s_per_step.n == sum(run.decisions.values())
    assert run.steps
    for step in run.steps:
        assert step.measured is not None
        assert step.measured.step_s == pytest.approx(step.step_s)
        assert step.predicted is not None


def test_variants_take_turns_for_every_seed(cells: tuple[Cell, ...], bench: FakeBench) -> None:
    assert [cells[i].placement.variant.id for i in in_turn(cells)] == ["gpu-only", "apex"] * 2
    batch = Batch(cells)
    with RealTimeRunner(bench, "emulated", lambda _: lambda _: None, FakeWatch) as runner:
        runner.run(batch)
        runner.run(Batch(cells[:1]))
    assert bench.opened == [("gpu-only", 0), ("apex", 0), ("gpu-only", 1), ("apex", 1),
                            ("gpu-only", 0)]  # fmt: skip
    assert bench.loaded == 1
    # The document has them by variant, whatever order they ran in.
    assert [(r.run.variant, r.run.seed) for r in batch.ordered()] == [
        ("gpu-only", 0), ("gpu-only", 1), ("apex", 0), ("apex", 1),
    ]  # fmt: skip


def test_progress_shows_loading_then_requests_and_tokens(
    cells: tuple[Cell, ...], bench: FakeBench
) -> None:
    seen: dict[str, list[Extent]] = {}
    with RealTimeRunner(
        bench, "emulated", lambda name: seen.setdefault(name, []).append, FakeWatch
    ) as runner:
        runner.run(Batch(cells[:1]))
    assert seen["loading"] == [Extent(loaded=Loaded(1, 1))]
    extents = seen["saturation"]
    assert (extents[0].requests_done, extents[-1].requests_done) == (0, 12)
    assert any((extent.tokens_per_s or 0) > 0 for extent in extents)


def test_an_interrupt_ends_the_run_at_hand_and_keeps_the_others(
    cells: tuple[Cell, ...], bench: FakeBench
) -> None:
    batch = Batch(cells)

    def interrupts(extent: Extent) -> None:
        if extent.runs_done == 2 and extent.tokens_per_s:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        RealTimeRunner(bench, "emulated", lambda _: interrupts, FakeWatch) as runner,
    ):
        runner.run(batch)
    assert sorted(batch.results) == [0, 2]
    assert bench.num_open == 0


def test_a_run_that_fails_costs_no_other(cells: tuple[Cell, ...], bench: FakeBench) -> None:
    def truth(placement):
        if placement.variant.id == "apex":
            raise InputError("the pool does not fit")
        return placement.deployment.costs()

    batch = Batch(cells)
    with RealTimeRunner(
        replace(bench, truth=truth), "emulated", lambda _: lambda _: None, FakeWatch
    ) as runner:
        runner.run(batch)
    assert set(batch.failures.values()) == {"the pool does not fit"}
    assert sorted(batch.results) == [0, 1]


def test_a_busy_machine_is_not_believed(cells: tuple[Cell, ...], bench: FakeBench) -> None:
    measured = run_of(cells[0], bench, "other processes took 40% of the CPUs").measured
    assert measured is not None
    assert (measured.is_trustworthy, measured.distrust) == (
        False,
        "other processes took 40% of the CPUs",
    )


@pytest.mark.parametrize(("share", "is_trusted"), [(0.5, True), (1.5, False)])
def test_late_lanes_are_not_believed(
    share: float, is_trusted: bool, cells: tuple[Cell, ...], bench: FakeBench
) -> None:
    step_s = sorted(step.step_s for step in run_of(cells[0], bench).steps)
    p99 = share * MAX_LATE_SHARE * step_s[len(step_s) // 2]
    late = Spread(mean=None, p50=0, p99=p99, max=p99, n=100)
    measured = run_of(cells[0], replace(bench, lateness=late)).measured
    assert measured is not None
    assert measured.is_trustworthy is is_trusted
    assert is_trusted or "ms too late" in (measured.distrust or "")


def test_the_host_pool_is_no_larger_than_all_requests_need(cells: tuple[Cell, ...]) -> None:
    gpu_only, apex = cells[0], cells[2]
    assert pools_for(gpu_only).cpu_tokens == 0
    assert pools_for(apex).cpu_tokens == 12 * 128  # 80 tokens each, in blocks of 64
    small = replace(apex.placement.capacity, cpu_kv_tokens=640)
    cell = replace(apex, placement=replace(apex.placement, capacity=small))
    assert pools_for(cell).cpu_tokens == 640
    assert pools_for(cell).gpu_tokens == 512


def test_ticks_count_tokens_of_the_run(cells: tuple[Cell, ...], bench: FakeBench) -> None:
    ticks: list[Tick] = []
    run_real_cell(cells[0], bench, "emulated", Watching(ticks.append, FakeWatch))
    assert ticks[0] == Tick(0, 0.0)
    assert ticks[-1].tokens_per_s == pytest.approx(100, rel=0.9)
    assert Thresholds().max_running_rows > ticks[-1].completed >= 0
