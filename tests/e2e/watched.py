"""`apexbench compare` in a process of its own, watched through a terminal; asserts no results."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START = "from apexbench.cli.main import main; main()"
# Small, two variants, both phases, one scenario.
SMALL = ("--gpu", "t4", "--workload", "osc", "--requests", "30", "--seeds", "2",
         "--rate", "0.8x,inf", "--policies", "gpu-only,apex")  # fmt: skip
# Seconds per run and many seeds: there is always something left to interrupt.
LONG = ("--gpu", "a10", "--workload", "fixed:64/64", "--requests", "3000", "--seeds", "12",
        "--policies", "gpu-only")  # fmt: skip
PATIENCE_S = 60  # for a hung process only


@dataclass
class Watched:
    """A comparison with its own session and a terminal for stderr, whose progress we read."""

    arguments: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    start: str = START
    seen: str = ""

    def __enter__(self) -> "Watched":
        self._terminal, terminal = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.start, "compare", *self.arguments],
            stdout=subprocess.DEVNULL, stderr=terminal, start_new_session=True,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "200"} | self.environment,
        )  # fmt: skip
        os.close(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._terminal)

    def read_until(self, pattern: str) -> None:
        """Until the terminal has shown `pattern`."""
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.seen):
            assert self._read(), f"ended without showing {pattern}: {self.seen[-500:]}"
            assert time.monotonic() < deadline, self.seen[-500:]

    def wait(self) -> int:
        """The exit code, once nothing of the session is left but zombies."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < deadline, f"does not end: {self.seen[-500:]}"
        code = self.process.wait(PATIENCE_S)
        while self.members():
            assert time.monotonic() < deadline, f"left behind: {self.members()}"
            time.sleep(0.05)
        return code

    def members(self) -> list[int]:
        """Living processes of the session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def workers(self) -> list[int]:
        """Members that run cells."""
        return [
            pid
            for pid in self.members()
            if b"compare.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def sentences(self) -> list[str]:
        """What the command said on stderr, without its progress."""
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)
        return re.findall(r"apexbench: [^\r\n]*", plain)

    def is_clean(self) -> bool:
        """Nobody, no worker and no helper of the interpreter, has printed what went wrong."""
        return not re.search("Traceback|Exception ignored|Error|leaked", self.seen)

    def _read(self) -> bool:
        """False when every process has closed the terminal."""
        if not select.select([self._terminal], [], [], PATIENCE_S)[0]:
            pytest.fail(f"silent for {PATIENCE_S} s: {self.seen[-500:]}")
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.seen += data.decode(errors="replace")
        return bool(data)
