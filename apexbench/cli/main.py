"""The `apexbench` command: entry point and table of commands, each of which has a module."""

import sys
from collections.abc import Sequence

from apexbench.cli import interrupts
from apexbench.cli.exits import guard

# Command -> module that holds it, in the order of --help. A module offers `app` (a group) or a
# function named like the command.
COMMANDS = {
    "compare": "apexbench.cli.compare",
    "predict": "apexbench.cli.predict",
    "generate": "apexbench.cli.generate",
    "profile": "apexbench.cli.profile",
    "list": "apexbench.cli.list_",
    "trace": "apexbench.cli.trace",
    "report": "apexbench.cli.report",
    "paper": "apexbench.cli.paper",
    "doctor": "apexbench.cli.doctor",
}


def main() -> None:
    """Entry point of the console script."""
    interrupts.end_at_once()
    code = run(sys.argv[1:])
    interrupts.let_end()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    return guard(lambda: _execute(list(arguments)))


def _execute(words: list[str]) -> object:
    from apexbench.cli.application import build

    application = build(COMMANDS, words)
    with interrupts.raising():
        return application(words, "apexbench", standalone_mode=False)
