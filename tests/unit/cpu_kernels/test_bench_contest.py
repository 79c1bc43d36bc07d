"""Contestants take turns, each with a probe on either side; nobody always goes first."""

from collections.abc import Callable

import pytest

from apexbench.cpu_kernels.bench.contest import Rules, compete
from apexbench.cpu_kernels.bench.samples import Pass, Probe

Log = list[str]


class Runner:
    """Notes that it ran; its passes are as many bytes as it has run before."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.log = log
        self.num_runs = 0

    def run(self) -> Pass:
        self.log.append(self.name)
        self.num_runs += 1
        return Pass(1.0, self.num_runs)


def counting_probe(log: Log) -> Callable[[], Probe]:
    def probe() -> Probe:
        log.append(".")
        return Probe({"plain": float(log.count("."))})

    return probe


def nothing() -> None:
    """Nobody wants the bench to end."""


def test_every_pass_has_a_probe_of_its_own_on_either_side() -> None:
    log: Log = []
    compete([Runner("a", log), Runner("b", log)], counting_probe(log), Rules(5, nothing))
    assert "".join(log) == ".a.b.b.a.a.b.b.a.a.b.b.a."


def test_probes_belong_to_the_pass_between_them_and_the_first_repeat_warms_up() -> None:
    log: Log = []
    rates = compete([Runner("a", log), Runner("b", log)], counting_probe(log), Rules(2, nothing))
    found = [
        [(one.before.gbps["plain"], one.measured.num_bytes, one.after.gbps["plain"])]
        for rate in rates
        for one in rate.repeats
    ]
    assert found == [[(4.0, 2, 5.0)], [(5.0, 3, 6.0)], [(3.0, 2, 4.0)], [(6.0, 3, 7.0)]]


def test_a_wish_to_end_is_heard_before_the_next_pass() -> None:
    log: Log = []

    def check() -> None:
        if "b" in log:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compete([Runner("a", log), Runner("b", log)], counting_probe(log), Rules(5, check))
    assert "".join(log) == ".a.b."
