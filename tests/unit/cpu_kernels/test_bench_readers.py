"""The readers read what they say, on as many threads as asked; never how fast."""

import ctypes
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench import readers
from apexbench.cpu_kernels.bench.calls import (
    PLAIN,
    PREFETCH,
    Calls,
    ReadOptions,
    WorkerPool,
    on_cpus,
    touched_bytes,
)
from apexbench.cpu_kernels.bench.readers import Readers, Tuning, arena_bytes
from apexbench.cpu_kernels.native import Library
from apexbench.errors import InputError, UsageError

PAGE = 4096


@pytest.fixture
def calls(compiled: Library) -> Calls:
    """The library as the bench calls it."""
    return Calls(compiled)


@pytest.fixture
def memory() -> NDArray[np.uint8]:
    """A little more than 40 pages."""
    return np.ones(40 * PAGE + 100, np.uint8)


@pytest.fixture
def workers(calls: Calls) -> Iterator[WorkerPool]:
    """Two workers."""
    made = WorkerPool(calls, min(2, len(os.sched_getaffinity(0))))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("options", "num_pages"),
    [
        (ReadOptions(reader=PLAIN, num_threads=1, num_streams=1), 40),
        (ReadOptions(reader=PLAIN, num_threads=3, num_streams=1), 39),
        (ReadOptions(reader=PLAIN, num_threads=1, num_streams=7), 40),  # it has one stream
        (ReadOptions(reader=PREFETCH, num_threads=1, num_streams=4, distance_bytes=512), 40),
        (ReadOptions(reader=PREFETCH, num_threads=3, num_streams=4, distance_bytes=8192), 36),
    ],
)
def test_threads_and_streams_read_equal_whole_pages(
    calls: Calls, memory: NDArray[np.uint8], options: ReadOptions, num_pages: int
) -> None:
    seconds, num_read = calls.read(options, memory.ctypes.data, memory.size)
    assert num_read == num_pages * PAGE
    assert seconds > 0


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("reader", [PLAIN, PREFETCH])
def test_a_reader_touches_every_page_it_counts(calls: Calls, reader: int, num_threads: int) -> None:
    """Pages of fresh anonymous memory become resident when they are read."""
    num_pages = 60
    pages = mmap.mmap(-1, num_pages * PAGE)
    pages.madvise(mmap.MADV_NOHUGEPAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert resident_pages(address, num_pages) == [False] * num_pages
    options = ReadOptions(
        reader=reader, num_threads=num_threads, num_streams=2, distance_bytes=1024
    )
    _, num_read = calls.read(options, address, num_pages * PAGE)
    assert resident_pages(address, num_pages) == [True] * (num_read // PAGE)


def resident_pages(address: int, num_pages: int) -> list[bool]:
    """Whether each page is mapped, by /proc/self/pagemap: bit 63 of a page's entry."""
    with Path("/proc/self/pagemap").open("rb") as entries:
        entries.seek(address // PAGE * 8)
        found = np.frombuffer(entries.read(num_pages * 8), np.uint64)
    return [bool(entry >> 63) for entry in found.tolist()]


@pytest.mark.parametrize(
    "options",
    [
        ReadOptions(reader=2, num_threads=1, num_streams=1),
        ReadOptions(reader=PLAIN, num_threads=0, num_streams=1),
        ReadOptions(reader=PREFETCH, num_threads=1, num_streams=0),
        ReadOptions(reader=PREFETCH, num_threads=1, num_streams=1, distance_bytes=-1),
        ReadOptions(reader=PLAIN, num_threads=41, num_streams=1),  # less than a page each
    ],
)
def test_what_cannot_be_read_is_an_error(
    calls: Calls, memory: NDArray[np.uint8], options: ReadOptions
) -> None:
    with pytest.raises(UsageError, match=r"reader|readers|page"):
        calls.read(options, memory.ctypes.data, memory.size)


def test_an_impossible_cpu_is_an_error(calls: Calls, memory: NDArray[np.uint8]) -> None:
    cpus = np.array([-1], np.int32)
    options = ReadOptions(reader=PLAIN, num_threads=1, num_streams=1, cpus=cpus.ctypes.data)
    with pytest.raises(UsageError, match="CPU -1"):
        calls.read(options, memory.ctypes.data, memory.size)


def test_a_cpu_that_is_offline_is_an_error_and_no_thread_is_left(
    calls: Calls, memory: NDArray[np.uint8]
) -> None:
    before = num_threads()
    cpus = np.array([min(os.sched_getaffinity(0)), 1023], np.int32)
    options = ReadOptions(reader=PLAIN, num_threads=2, num_streams=1, cpus=cpus.ctypes.data)
    with pytest.raises(InputError, match="1 of 2"):
        calls.read(options, memory.ctypes.data, memory.size)
    assert num_threads() == before


def num_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_probe_has_every_reader_and_windows_take_turns(
    calls: Calls, workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WINDOW_BYTES", 64 * PAGE)
    arena = touched_bytes(calls, 4 * 64 * PAGE, workers)
    made = Readers(calls, arena, workers)
    asked: list[int] = []
    read = calls.read

    def note(options: ReadOptions, address: int, num_bytes: int) -> tuple[float, int]:
        asked.append((address - arena.ctypes.data) // (64 * PAGE))
        return read(options, address, num_bytes)

    monkeypatch.setattr(calls, "read", note)
    made._next_window = 0
    probes = [made.probe() for _ in range(4)]
    assert asked == [0, 1, 3, 0, 2, 3, 1, 2]  # NumPy had the ones between
    assert all(set(probe.gbps) == {"plain", "prefetch", "numpy"} for probe in probes)
    assert all(rate > 0 for probe in probes for rate in probe.gbps.values())


def test_the_tuning_is_the_fastest_candidate_in_its_best_round(
    calls: Calls, workers: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    best, lucky_once = Tuning(2, 1024), Tuning(4, 8192)
    num_asked: dict[Tuning, int] = {}

    def rate(_: Readers, tuning: Tuning) -> float:
        num_asked[tuning] = num_asked.get(tuning, 0) + 1
        if tuning == best:
            return 30.0 if num_asked[tuning] == 2 else 5.0
        return 20.0 if tuning == lucky_once else 10.0

    monkeypatch.setattr(Readers, "_prefetch", rate)
    arena = touched_bytes(calls, readers.WINDOW_BYTES, workers)
    assert Readers(calls, arena, workers).tuning == best
    assert set(num_asked.values()) == {readers.TUNING_ROUNDS}


def test_an_arena_is_larger_than_any_cache_and_has_whole_windows() -> None:
    assert arena_bytes(0) == readers.SMALLEST_ARENA_BYTES
    assert arena_bytes(384 << 20) >= 8 * (384 << 20)
    assert arena_bytes((384 << 20) + 1) % readers.WINDOW_BYTES == 0


def test_more_memory_than_there_is_is_refused_before_it_is_touched(
    calls: Calls, workers: WorkerPool
) -> None:
    with pytest.raises(InputError, match=r"needs .* MiB more"):
        touched_bytes(calls, 1 << 50, workers)


def test_a_thread_keeps_to_its_cpus_and_returns() -> None:
    allowed = os.sched_getaffinity(0)
    one = {min(allowed)}
    with on_cpus(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == allowed
    with on_cpus(()):
        assert os.sched_getaffinity(0) == allowed


def test_sums_are_of_all_shares_and_leave_the_caller_where_it_was() -> None:
    allowed = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    class Share(np.ndarray):
        def sum(self) -> None:  # type: ignore[override]
            seen.append(os.sched_getaffinity(threading.get_native_id()))

    shares = [np.zeros(8, np.int64).view(Share) for _ in range(2)]
    cpus = [min(allowed), max(allowed)]
    assert readers._time_sums(shares, cpus) >= 0
    assert sorted(map(sorted, seen)) == sorted([[cpu] for cpu in cpus])
    assert os.sched_getaffinity(0) == allowed
