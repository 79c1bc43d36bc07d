"""Who else used the machine, from counters that tests write; nothing is timed."""

import os
from collections.abc import Iterator

import pytest

from apexbench.engine.executors.profiling import quiet
from apexbench.engine.executors.profiling.quiet import CpuWatch, Quietness, quietness

TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count() or 1


def stat(user: int = 0, system: int = 0, idle: int = 0, iowait: int = 0, steal: int = 0) -> str:
    return f"cpu  {user} 0 {system} {idle} {iowait} 0 0 {steal} 7 7\ncpu0 1 2 3\nctxt 5\n"


def watch(before: str, after: str, own_ticks: int = 0) -> CpuWatch:
    texts: Iterator[str] = iter((before, after))
    own = iter((0, own_ticks * TICK_NS))
    return CpuWatch(lambda: next(texts), lambda: next(own))


@pytest.fixture(autouse=True)
def _no_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


def test_our_own_work_is_not_somebody_elses() -> None:
    found = watch(stat(), stat(user=90, system=10, idle=100), own_ticks=100).quietness()
    assert found == Quietness(True, None, 0.0, 0.0, 0.0)


def test_others_are_what_is_left_of_the_busy_time() -> None:
    found = watch(stat(user=5), stat(user=85, idle=100, iowait=20), own_ticks=40).quietness()
    assert found.other_cpu_fraction == pytest.approx(0.2)
    assert (found.is_quiet, found.reason) == (False, "other processes took 20% of the CPUs")


def test_stolen_time_comes_first_among_the_reasons() -> None:
    found = watch(stat(), stat(user=90, idle=100, steal=10)).quietness()
    assert found.steal_fraction == pytest.approx(0.05)
    assert found.other_cpu_fraction == pytest.approx(0.45)
    assert found.reason == "other virtual machines took 5% of the CPUs"


def test_the_load_counts_only_when_it_cannot_be_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (CPUS + 1.0, 0.0, 0.0))
    after = stat(idle=100)
    assert watch(stat(), after).quietness().is_quiet
    found = watch(stat(), after).quietness(minds_load=True)
    assert found.reason == f"the load average is {CPUS + 1:.1f} on {CPUS} CPUs"


def test_unsteady_reads_are_a_reason() -> None:
    found = watch(stat(), stat(idle=100)).quietness(read_spread=0.4)
    assert (found.is_quiet, found.reason) == (False, "reads of memory differ by 40%")
    assert watch(stat(), stat(idle=100)).quietness(read_spread=0.1).is_quiet


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "intr 5 5 5 5 5 5 5 5 5 5\n"])
def test_a_system_that_does_not_say_is_unknown_not_an_error(text: str) -> None:
    found = watch(text, text).quietness()
    assert (found.steal_fraction, found.other_cpu_fraction) == (None, None)
    assert found.is_quiet


def test_no_time_between_two_looks_is_unknown() -> None:
    assert watch(stat(user=5), stat(user=5)).quietness().other_cpu_fraction is None


def test_the_check_of_the_machine_asks_for_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "read_spread", lambda: 0.5)
    monkeypatch.setattr(quiet, "_stat_text", lambda: "")
    found = quietness(sample_s=0.0)
    assert (found.is_quiet, found.reason) == (False, "reads of memory differ by 50%")
    assert found.load == 0.0


def test_reads_of_memory_have_some_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "WINDOW_BYTES", 1 << 12)
    spread = quiet.read_spread()
    assert spread is not None
    assert spread >= 0


def test_no_memory_for_reads_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("numpy.ones", refuse)
    assert quiet.read_spread() is None
