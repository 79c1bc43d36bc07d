"""Everything the package raises on purpose, as one tree; only the CLI turns it into an exit code.

ApexbenchError          exit 4   a run failed
├── UsageError          exit 2   the command line asks for something that does not exist
├── InputError          exit 3   a file, a profile or a workload cannot be used
├── InvariantError      exit 4   a law of the engine was broken: a bug, not the user's fault
└── PolicyError         exit 4   a policy broke a law that every policy must keep
"""

from collections.abc import Iterable
from difflib import get_close_matches


class ApexbenchError(Exception):
    """Base of all errors raised on purpose; the message is one sentence for the user."""

    exit_code = 4


class UsageError(ApexbenchError):
    """The request itself is wrong: an unknown name, a flag out of range, a contradiction."""

    exit_code = 2


class InputError(ApexbenchError):
    """Something the request refers to cannot be used: missing, malformed or empty."""

    exit_code = 3


class InvariantError(ApexbenchError):
    """The engine broke one of its own laws."""


class PolicyError(ApexbenchError):
    """A policy broke a law; the message names the policy, the law and the step."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A UsageError for `name`, listing near matches first and otherwise all known names."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} '{name}'; {hint}")
