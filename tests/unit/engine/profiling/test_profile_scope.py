"""What a profile measures, on how many threads, and when it stops; nothing is timed."""

from pathlib import Path

import pytest

from apexbench.cpu_kernels.bench.calls import Calls
from apexbench.engine.executors.profiling import attention, circumstances, host
from apexbench.engine.executors.profiling.pace import Pace, Watchers
from apexbench.engine.executors.profiling.scope import FULL, MAX_JOB_TOKENS, QUICK, choose_threads
from apexbench.engine.executors.profiling.stepping import measure_steps
from apexbench.errors import UsageError
from tests.host_measurements import grid, point


@pytest.mark.parametrize(
    ("cores", "wished", "threads"),
    [
        (1, None, (1,)),
        (2, None, (1, 2)),
        (4, None, (1, 2, 3, 4)),
        (64, None, (1, 16, 32, 63, 64)),
        (64, 8, (1, 2, 4, 7, 8)),
        (64, 1, (1,)),
    ],
)
def test_threads_are_few_and_hold_one_the_default_and_all(
    cores: int, wished: int | None, threads: tuple[int, ...]
) -> None:
    assert choose_threads(cores, wished) == threads


@pytest.mark.parametrize("wished", [0, -1, 3])
def test_threads_that_are_not_there_are_refused(wished: int) -> None:
    with pytest.raises(UsageError, match=f"--cpu-threads is {wished}; this process may use 1 to 2"):
        choose_threads(2, wished)


@pytest.mark.parametrize("scope", [FULL, QUICK], ids=lambda scope: scope.name)
def test_jobs_determine_a_curve_and_fit_into_memory(scope) -> None:
    for rows, tokens in scope.jobs():
        assert rows
        assert max(rows) * tokens <= MAX_JOB_TOKENS
    several = [tokens for rows, tokens in scope.jobs() if len(rows) > 1]
    assert len(several) >= 3  # a dispatch is told from a row by jobs of several rows
    seen = {(tokens,) * count for rows, tokens in scope.jobs() for count in rows}
    assert not seen & set(scope.held_out)
    assert any(len(set(lengths)) > 1 for lengths in FULL.held_out)


class Ticking:
    """A clock that a test moves."""

    now_s = 0.0

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    found = Ticking()
    monkeypatch.setattr("apexbench.engine.executors.profiling.pace.WallClock", lambda: found)
    return found


def test_pace_tells_how_far_it_is_and_when_time_is_over(clock: Ticking) -> None:
    told: list[tuple[float, str]] = []
    pace = Pace(10.0, Watchers(tell=lambda share, what: told.append((share, what))), total=2)
    for what in ("a", "b", "c", "d"):
        pace.step(what)
    assert told == [(0.0, "a"), (0.5, "b"), (1.0, "c"), (1.0, "d")]
    had_time = pace.has_time
    clock.now_s = 10.0
    assert (had_time, pace.has_time, pace.elapsed_s) == (True, False, 10.0)


def test_a_wish_to_stop_is_heard_at_every_step() -> None:
    asked: list[str] = []
    pace = Pace(1.0, Watchers(check=lambda: asked.append("stop?")), total=1)
    pace.step("anything")
    pace.check()
    assert asked == ["stop?"] * 2


def test_a_group_of_jobs_is_measured_as_a_whole_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, clock: Ticking
) -> None:
    def jobs(scope, what, rows, tokens, pace):
        clock.now_s += 1.0
        return [point((tokens,) * rows[0], dtype=what[1])]

    monkeypatch.setattr(attention, "_jobs", jobs)
    group_s = len(QUICK.jobs())
    pace = Pace(2.5 * group_s, Watchers(), total=1)
    found = list(attention.measure_round(QUICK, (1,), 0, pace))
    assert len(found) == 2 * group_s
    assert {one.dtype for one in found} == {"fp16"}  # both groups of the first dtype come first


def test_what_time_cut_off_is_named() -> None:
    points = [one for kv_heads in (32, 8) for one in grid(kv_heads=kv_heads)]
    missing = host._missing(QUICK, points)
    assert missing == (
        "int8 KV with 32/32 heads",
        "int8 KV with 32/8 heads",
        "part of the held-out jobs",
    )
    whole = [one for d in QUICK.dtypes for h in (32, 8) for one in grid(dtype=d, kv_heads=h)]
    whole += [
        point(lengths, kv_heads=h, is_held_out=True) for lengths in QUICK.held_out for h in (32, 8)
    ]
    assert host._missing(QUICK, whole) == ()


def test_steps_are_run_for_every_number_of_rows() -> None:
    steps = list(measure_steps(20, Pace(1.0, Watchers(), total=1)))
    assert [step.rows for step in steps] == [1, 16, 64, 256]
    assert all(step.timing.n == 20 for step in steps)


def test_threads_of_a_core_count_once_and_a_quota_bounds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert circumstances.usable_cores([0, 1, 2, 3], tmp_path) == 2
    assert circumstances.usable_cores([0, 1, 9], tmp_path) == 2  # one of which nobody says
    monkeypatch.setattr(circumstances, "read_quota", lambda: 1.5)
    assert circumstances.usable_cores([0, 1, 2, 3], tmp_path) == 1
    monkeypatch.setattr(circumstances, "read_quota", lambda: 0.5)
    assert circumstances.usable_cores([0], tmp_path) == 1


def test_nodes_and_memory_are_read_from_the_system(tmp_path: Path) -> None:
    for node, cpus in enumerate(("0-7", "8-15", "")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}/cpulist").write_text(cpus)
    assert circumstances.numa_nodes(tmp_path) == 2
    assert circumstances.numa_nodes(tmp_path / "none") == 1
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    info.write_text("MemTotal:       1000 kB\nMemFree: 5 kB\n")
    limit.write_text("max\n")
    assert circumstances.memory_bytes(info, limit) == 1000 << 10
    limit.write_text("4096\n")
    assert circumstances.memory_bytes(info, limit) == 4096
    assert circumstances.memory_bytes(tmp_path / "none", limit) == 0


def test_circumstances_name_the_library_and_the_machine() -> None:
    from apexbench.cpu_kernels.native import library

    loaded = library()
    if loaded is None:
        pytest.skip("the CPU kernels are not compiled here")
    found = circumstances.describe(Calls(loaded))
    assert len(found["kernel_library_sha256"]) == 64
    assert found["isa"] in ("avx2", "avx512", "avx512x", "neon", "reference")
    assert found["cores"] >= 1
