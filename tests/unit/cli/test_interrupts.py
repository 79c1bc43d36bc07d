"""Signals are noted, raised or final by stage; what they do to a whole command is tested e2e."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from apexbench.cli import doctor, interrupts
from apexbench.cli.exits import ExitCode, guard
from apexbench.cli.main import run


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[Any]]:
    """Those of the test run, put back whatever a test has done."""
    before = [signal.getsignal(number) for number in interrupts.STOP_SIGNALS]
    yield before
    for number, handler in zip(interrupts.STOP_SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.mark.parametrize("number", interrupts.STOP_SIGNALS)
def test_deferred_signal_is_raised_only_where_asked_for(
    number: signal.Signals, ends: list[int]
) -> None:
    with interrupts.deferred() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            stop.check()
    assert ends == []


def test_signal_wakes_the_next_phase_and_the_next_report(ends: list[int]) -> None:
    seen: list[tuple[str, int]] = []

    def phase(name: str) -> Callable[[int], None]:
        return lambda amount: seen.append((name, amount))

    with interrupts.deferred() as stop:
        watched = stop.watching(phase)
        report = watched("first")
        report(1)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            report(2)
        with pytest.raises(KeyboardInterrupt):
            watched("second")
    assert seen == [("first", 1)]


def test_only_a_wish_repeated_later_ends_the_process(
    ends: list[int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr("apexbench.cli.interrupts.time.monotonic", lambda: now_s)
    with interrupts.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        now_s += interrupts.REPEAT_S
        os.kill(os.getpid(), signal.SIGTERM)
        assert ends == []
        now_s += interrupts.REPEAT_S / 2
        os.kill(os.getpid(), signal.SIGINT)
    assert ends == [130]
    assert capfd.readouterr().err.startswith("apexbench: interrupted twice; ")


def test_stages_nest_and_give_back_what_was(handlers: list[Any], ends: list[int]) -> None:
    with interrupts.raising():
        with interrupts.at_once():
            with interrupts.deferred():
                os.kill(os.getpid(), signal.SIGINT)
            assert ends == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert ends == [130]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in interrupts.STOP_SIGNALS] == handlers


def test_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.raising():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_nothing_ends_a_process_that_is_done(ends: list[int]) -> None:
    interrupts.end_at_once()
    interrupts.let_end()
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    assert ends == []


def test_interrupted_command_of_any_kind_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", (lambda: os.kill(os.getpid(), signal.SIGTERM),))
    assert run(["doctor"]) == 130
    assert capsys.readouterr() == ("", "apexbench: interrupted\n")


def test_command_that_has_said_so_itself_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: ExitCode.INTERRUPTED) == 130
    assert capsys.readouterr() == ("", "")
