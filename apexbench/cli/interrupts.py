"""What Ctrl-C and SIGTERM do to a command, stage by stage; handles no results.

An exception raised by a handler appears wherever the program happens to be: in an import that turns
it into another error, in a finalizer that swallows it, in a library that holds a lock. So a command
that has nothing to lose ends at once, and one with results is asked to stop where it is safe.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

from apexbench.cli.exits import ExitCode

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A terminal and a wrapper around the command may both pass on one Ctrl-C: that is one wish.
REPEAT_S = 1.0
_STDERR = 2
_SHOW_CURSOR = "\x1b[?25h\r\n"  # progress bars have hidden it

_Amount = TypeVar("_Amount")


class StopRequest:
    """Whether somebody has asked to stop. A wish repeated after `REPEAT_S` ends the process."""

    def __init__(self) -> None:
        self._asked_s: float | None = None

    def is_asked(self) -> bool:
        """Whether somebody has."""
        return self._asked_s is not None

    def check(self) -> None:
        """KeyboardInterrupt if so; to be called where nothing is half done."""
        if self.is_asked():
            raise KeyboardInterrupt

    def watching(
        self, phase: Callable[[str], Callable[[_Amount], None]]
    ) -> Callable[[str], Callable[[_Amount], None]]:
        """`phase` with a check at the start of every phase and at each of its reports."""

        def watched(name: str) -> Callable[[_Amount], None]:
            self.check()
            report = phase(name)

            def checked(amount: _Amount) -> None:
                self.check()
                report(amount)

            return checked

        return watched

    def note(self, _number: int, _frame: FrameType | None) -> None:
        """The handler: raises nothing."""
        now_s = time.monotonic()
        if self._asked_s is None:
            self._asked_s = now_s
        elif now_s - self._asked_s > REPEAT_S:
            cursor = _SHOW_CURSOR if os.isatty(_STDERR) else ""
            _end(f"{cursor}apexbench: interrupted twice; what was not written yet is lost\n")


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """A signal is only noted: for the time in which there are results to keep and to write."""
    request = StopRequest()
    with _handled(request.note):
        yield request


@contextmanager
def at_once() -> Iterator[None]:
    """A signal ends the process with one sentence: for the time in which nothing can be lost."""
    with _handled(_interrupted):
        yield


@contextmanager
def raising() -> Iterator[None]:
    """A signal raises KeyboardInterrupt: for commands that clean up and keep no results."""
    with _handled(signal.default_int_handler):
        yield


def end_at_once() -> None:
    """As `at_once`, until further notice: from the very start of the process."""
    _handle(_interrupted)


def let_end() -> None:
    """Signals change nothing any more: the exit code is decided, the interpreter is going down."""
    _handle(signal.SIG_IGN)


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    before = _handle(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _handle(handler: Any) -> dict[signal.Signals, Any]:
    """The handlers until now. A signal that whoever started us had ignored (nohup) stays so."""
    now = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    ours = {number: old for number, old in now.items() if old not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, handler)
    return ours


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    _end("apexbench: interrupted\n")


def _end(text: str) -> NoReturn:
    """By system calls: streams may be in the middle of a write, and their locks held."""
    with contextlib.suppress(OSError):
        os.write(_STDERR, text.encode())
    os._exit(ExitCode.INTERRUPTED)
