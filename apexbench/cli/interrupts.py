"""Which signals stop a comparison, and when they must wait; handles no results."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM acts like Ctrl-C, so that what is done is written then, too."""
    with _handled((signal.SIGTERM,), signal.default_int_handler):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Neither ends the program meanwhile: for the seconds in which results are written."""
    with _handled(STOP_SIGNALS, signal.SIG_IGN):
        yield


@contextmanager
def _handled(signals: tuple[signal.Signals, ...], handler: Any) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
