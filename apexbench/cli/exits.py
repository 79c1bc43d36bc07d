"""Exceptions to exit codes, in the one place that does so; commands only raise."""

import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

from apexbench.errors import ApexbenchError

DEBUG_VARIABLE = "APEXBENCH_DEBUG"


class ExitCode(IntEnum):
    """The exit codes users may rely on; 2 to 4 are also carried by the errors themselves."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    INPUT = 3
    RUN_FAILED = 4
    INTERRUPTED = 130


def guard(command: Callable[[], object]) -> int:
    """Run `command`; its exit code, or that of the error after one sentence on stderr.

    `command` may return an exit code; anything else counts as success.
    """
    import typer

    try:
        code = command()
        sys.stdout.flush()
    except ApexbenchError as error:
        return _explain(str(error), error.exit_code)
    except typer.TyperException as error:
        return _on_usage(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return _explain("interrupted", ExitCode.INTERRUPTED)
    except BrokenPipeError:
        return _go_quietly()
    except SystemExit as stop:
        return _on_system_exit(stop)
    except Exception as error:  # noqa: BLE001 - the last resort before the user
        return _on_bug(error)
    if code == ExitCode.INTERRUPTED and not isinstance(code, ExitCode):
        return _explain("interrupted", ExitCode.INTERRUPTED)  # typer says nothing at Ctrl-C
    return int(code) if isinstance(code, int) else ExitCode.OK


def _explain(message: str, code: int) -> int:
    """Each line of `message` is a sentence of its own and gets the prefix."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exc()
    for sentence in message.splitlines():
        print(f"apexbench: {sentence}", file=sys.stderr)
    return code


def _on_usage(message: str) -> int:
    """A wrong command line; a group without its command comes as the group's help."""
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return ExitCode.USAGE
    return _explain(message, ExitCode.USAGE)


def _on_bug(error: Exception) -> int:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "" if os.environ.get(DEBUG_VARIABLE) else f"; {DEBUG_VARIABLE}=1 shows where"
    return _explain(f"this is a bug in apexbench: {reason}{hint}", ExitCode.RUN_FAILED)


def _on_system_exit(stop: SystemExit) -> int:
    """typer turns a closed pipe into SystemExit(1); every other code is meant."""
    if isinstance(stop.__context__, BrokenPipeError):
        return _go_quietly()
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or ExitCode.OK
    return _explain(stop.code, ExitCode.RUN_FAILED)


def _go_quietly() -> int:
    """The reader has had enough (`| head`): stay silent, the interpreter's last flush too."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    return ExitCode.OK
