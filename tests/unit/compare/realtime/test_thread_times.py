"""CPU time by lane, from counters as the system writes them."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from apexbench.compare.realtime.thread_times import ThreadTimes, cpu_times

ENGINE = threading.get_native_id()
GPU, WAITER, WORKER, TORCH, BYSTANDER = (ENGINE + i for i in range(1, 6))


@dataclass
class Thread:
    native_id: int | None


@dataclass
class Waiters:
    native_ids: tuple[int | None, ...] = (WAITER,)


@dataclass
class Executor:
    lanes: dict[str, Thread] = field(default_factory=lambda: {"gpu": Thread(GPU)})
    attention: Waiters = field(default_factory=Waiters)


def write(tasks: Path, **times: int) -> None:
    names = {"engine": ENGINE, "gpu": GPU, "waiter": WAITER, "worker": WORKER, "torch": TORCH,
             "bystander": BYSTANDER}  # fmt: skip
    for name, ns in times.items():
        folder = tasks / str(names[name])
        folder.mkdir(exist_ok=True)
        (folder / "schedstat").write_text(f"{ns} 77 5\n")
        (folder / "comm").write_text("apx-0\n" if name == "worker" else "python\n")


def test_threads_count_for_their_lanes_from_the_start_of_the_run(tmp_path: Path) -> None:
    write(tmp_path, engine=100, bystander=10)
    bystanders = cpu_times(tmp_path)
    write(tmp_path, engine=150, gpu=20, waiter=1, worker=30)
    times = ThreadTimes(Executor(), bystanders, tmp_path)
    assert times.by_lane() == {}
    write(tmp_path, engine=250, gpu=420, waiter=11, worker=530, torch=40, bystander=9999)
    assert times.by_lane() == {"host": 110, "gpu": 440, "cpu": 500}


def test_a_system_without_counters_gives_none(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    assert cpu_times(tmp_path) == {}
    assert ThreadTimes(Executor(), {}, tmp_path).by_lane() == {}


def test_this_process_has_counters() -> None:
    assert cpu_times()[ENGINE] > 0
