"""Running cells and writing what they found: failures stay alone, files are whole or absent."""

import dataclasses
import os
import signal
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from subprocess import Popen
from typing import Any

import pyarrow.parquet as pq
import pytest

from apexbench.compare import pool, worker
from apexbench.compare.cells import Cell, CellResult, run_cell
from apexbench.compare.comparison import Comparison
from apexbench.compare.environment import environment
from apexbench.compare.outputs import write_all
from apexbench.compare.pool import Batch, CellRunner, Extent
from apexbench.compare.scenarios import preset_values
from apexbench.config import resolve
from apexbench.errors import ApexbenchError, InputError
from apexbench.files import check_target, write_text_atomic
from apexbench.result import read


def prepared(**options: Any) -> Comparison:
    given = {"gpu": "t4", "workload": "fixed:30/5", "requests": 12, "seeds": 2, "rate": ["0.5x"],
             "policies": ["gpu-only", "apex"], "jobs": 1}  # fmt: skip
    return Comparison.prepare(resolve(given | options, {}, None, preset_values))


def finished(**options: Any) -> Comparison:
    comparison = prepared(**options)
    comparison.run(lambda _: lambda _: None)
    return comparison


def test_multiples_need_only_the_saturation_of_the_baseline() -> None:
    result = finished().document(wall_s=1)
    assert [(run.setting.rpartition("/")[2], run.variant, run.seed) for run in result.runs] == [
        ("inf", "gpu-only", 0), ("inf", "gpu-only", 1),
        ("0.5x", "gpu-only", 0), ("0.5x", "gpu-only", 1), ("0.5x", "apex", 0), ("0.5x", "apex", 1),
    ]  # fmt: skip
    saturation = [run.metrics.request_throughput_rps for run in result.runs[:2]]
    assert result.settings[1].rate_rps == pytest.approx(0.5 * sum(saturation) / 2)
    assert not result.is_partial


def test_absolute_rates_need_no_saturation() -> None:
    result = finished(rate=["2"]).document(wall_s=1)
    assert {run.setting.rpartition("/")[2] for run in result.runs} == {"2"}


def test_progress_counts_requests_of_all_cells() -> None:
    seen: list[tuple[str, Extent]] = []
    prepared().run(lambda phase: lambda extent: seen.append((phase, extent)))
    assert seen[0] == ("saturation", Extent(0, 2, 0, 24))
    assert seen[-1] == ("rates", Extent(4, 4, 48, 48))
    for phase in ("saturation", "rates"):
        done = [extent.requests_done for name, extent in seen if name == phase]
        assert done == sorted(done)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ApexbenchError("no such luck"), "no such luck"),
        (KeyError("k"), "bug in apexbench: KeyError"),
    ],
)
def test_failing_cell_costs_no_other(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(cell: Cell, on_progress: Any = None) -> CellResult:
        if cell.seed == 1 and cell.rate_rps is not None:
            raise error
        return run_cell(cell, on_progress)

    monkeypatch.setattr(pool, "run_cell", fails_once)
    comparison = finished()
    result = comparison.document(wall_s=1)
    assert [run.seed for run in result.runs] == [0, 1, 0, 0]
    assert (result.is_partial, result.is_interrupted) == (True, False)
    assert len(comparison.failures) == 2
    assert "gpu-only with seed 1 failed: " in comparison.failures[0]
    assert sentence in comparison.failures[0]
    assert set(comparison.failures) <= set(result.warnings)


def test_interrupt_anywhere_keeps_what_has_ended() -> None:
    def interrupts(extent: Extent) -> None:
        if extent.runs_done == 1:
            raise KeyboardInterrupt

    comparison = prepared()
    comparison.run(lambda _: interrupts)
    assert comparison.is_interrupted
    result = comparison.document(wall_s=1)
    assert len(result.runs) == 1
    assert (result.is_partial, result.is_interrupted) == (True, True)


def test_unknown_saturation_leaves_its_multiples_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def stands_still(cell: Cell, on_progress: Any = None) -> CellResult:
        found = run_cell(cell, on_progress)
        metrics = found.run.metrics.model_copy(update={"request_throughput_rps": 0.0})
        return dataclasses.replace(found, run=found.run.model_copy(update={"metrics": metrics}))

    monkeypatch.setattr(pool, "run_cell", stands_still)
    result = finished(rate=["0.5x", "1x"]).document(wall_s=1)
    assert {run.setting.rpartition("/")[2] for run in result.runs} == {"inf"}
    assert result.warnings[0] == (
        "t4/llama-2-7b/fixed:30/5: nothing at 0.5x and 1x, because gpu-only has no throughput"
        " to multiply"
    )


def test_left_out_requests_are_said_once() -> None:
    notes = finished(workload="osc", gpu_kv_tokens=480, rate=["0.5x", "inf"]).notes
    assert len(notes) == 1
    assert "of 24 requests are left out for every policy, because gpu-only" in notes[0]
    assert "480 KV tokens" in notes[0]


def test_order_of_results_is_that_of_the_cells() -> None:
    comparison = finished()
    batch = comparison.batches[-1]
    backwards = Batch(batch.cells, dict(reversed(batch.results.items())))
    assert backwards.ordered() == batch.ordered()


@pytest.mark.slow
def test_processes_change_nothing() -> None:
    one, two = finished(), prepared(jobs=2)
    two.run(lambda _: lambda _: None)
    assert one.document(wall_s=1).runs == two.document(wall_s=1).runs


@pytest.fixture(scope="module")
def cells() -> Sequence[Cell]:
    return finished().batches[-1].cells


@pytest.mark.slow
def test_workers_serve_batch_after_batch(cells: Sequence[Cell]) -> None:
    with CellRunner(2, lambda _: None) as runner:
        for some in (cells[:1], cells, cells[:0], cells[1:]):
            batch = Batch(some)
            runner.run(batch)
            assert [r.run.variant for r in batch.ordered()] == [
                cell.placement.variant.id for cell in some
            ]
        assert len(runner._workers) == 2
        processes = [worker.process for worker in runner._workers]
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


@pytest.mark.slow
def test_dead_worker_loses_what_is_open_now_and_later(cells: Sequence[Cell]) -> None:
    def kills_once(extent: Extent) -> None:
        if extent.runs_done == 1:
            runner._workers[0].process.kill()

    with CellRunner(2, kills_once) as runner:
        batch, later = Batch(list(cells) * 20), Batch(cells)
        runner.run(batch)
        runner.run(later)
    assert batch.results
    assert batch.num_lost == 20 * len(cells) - len(batch.results) > 0
    assert (later.num_lost, later.results) == (len(cells), {})


def test_worker_that_dies_in_the_middle_of_a_result_is_dead() -> None:
    """Half a message and then nothing: what a process leaves that is killed while it sends."""
    ours, theirs = Pipe()
    dying = pool._Worker(Popen(["true"]), ours)
    dying.process.wait()
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"half of it")
    theirs.close()
    assert dying.listen() is None
    assert dying.is_dead


def test_worker_sees_its_parent_hang_up_without_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    ours, theirs = Pipe()
    ours.send("unread")
    ours.close()
    worker._end_with_parent(theirs.fileno())
    assert codes == [1]
    assert theirs.recv() == "unread"


@pytest.mark.slow
def test_interrupt_between_results_ends_the_workers(cells: Sequence[Cell]) -> None:
    def interrupts(extent: Extent) -> None:
        if extent.runs_done:
            raise KeyboardInterrupt

    batch, runner = Batch(list(cells) * 20), CellRunner(2, interrupts)
    with pytest.raises(KeyboardInterrupt), runner:
        runner.run(batch)
    assert 1 <= len(batch.results) < 20 * len(cells)
    assert all(worker.process.returncode is not None for worker in runner._workers)


@pytest.mark.slow
def test_cell_that_cannot_travel_costs_no_other(cells: Sequence[Cell]) -> None:
    fixed = dataclasses.replace(cells[0], setting=Unsendable())
    with CellRunner(2, lambda _: None) as runner:
        batch = Batch([fixed, cells[0]])
        runner.run(batch)
    assert list(batch.results) == [1]
    assert batch.failures == {0: "this is a bug in apexbench: TypeError: stays here"}


class Unsendable(str):
    """A setting that refuses to be pickled."""

    __slots__ = ()

    def __reduce__(self) -> str:
        raise TypeError("stays here")


def test_everything_is_written_and_readable(tmp_path: Path) -> None:
    comparison = finished()
    result = comparison.document(wall_s=1)
    write_all(tmp_path / "new" / "out", result, comparison.request_table())
    out = tmp_path / "new" / "out"
    assert read(out / "result.json") == result
    table = pq.read_table(out / "requests.parquet")
    assert table.num_rows == 12 * len(result.runs)
    assert {path.name for path in out.iterdir()} == {
        "result.json", "requests.parquet", "summary.md", "trace.json", "report.html",
    }  # fmt: skip


def test_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_target(pipe)
    write_text_atomic(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


def test_full_device_is_one_sentence() -> None:
    with pytest.raises(InputError, match="cannot write '/dev/full': No space left on device"):
        write_text_atomic(Path("/dev/full"), "text")


def test_environment_is_reproducible_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    fixed = environment(wall_s=3.5, simulated_s=2)
    assert (fixed.created_at, fixed.wall_s) == ("1970-01-01T00:00:00+00:00", 0)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    free = environment(wall_s=3.5, simulated_s=2)
    assert free.wall_s == 3.5
    assert free.created_at > "2024"
