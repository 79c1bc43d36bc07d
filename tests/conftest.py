"""Signals as a terminal gives them, and the real traces: read in place, their hashes printed."""

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def real_trace(capsys: pytest.CaptureFixture[str]) -> Callable[[str], Path]:
    """Path of a real trace by file name; prints its hash, skips as UNPROVEN where it is absent."""

    def find(name: str) -> Path:
        folder = os.environ.get("APEXBENCH_TRACES")
        path = (Path(folder) if folder else REPOSITORY.parent / "shared" / "traces") / name
        if not path.exists():
            pytest.skip(f"UNPROVEN: no real trace {name}; set APEXBENCH_TRACES to its directory")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with capsys.disabled():
            print(f"\nreal trace {name} sha256 {digest}")  # noqa: T201 - the log of a run shows its data
        return path

    return find


def pytest_configure() -> None:
    """A background job inherits an ignored SIGINT, and so would every process that tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
