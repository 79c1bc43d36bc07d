"""What a backend does when lanes run its ops; the lanes themselves are in lane.py."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from apexbench.engine.expansion import Op
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry
from apexbench.records import Request


class Sampled(NamedTuple):
    """What a step produced: (sequence, tokens) of rows that sampled, who is complete, and who
    could not be sampled, with the reason.
    """

    tokens: tuple[tuple[int, int], ...]
    finished: frozenset[int]
    failed: tuple[tuple[int, str], ...] = ()


class Attention(Protocol):
    """CPU attention that has been submitted."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block without the interpreter's lock until it is done; False after `timeout_s`."""
        ...


class StepWork(Protocol):
    """The ops of one step. Methods are called on the thread of the op's lane, each op once, after
    everything it depends on. An exception fails the rows of the op and of nobody else.
    """

    def run(self, op: Op) -> None:
        """An op of the gpu lane, or an urgent copy."""
        ...

    def pieces(self, op: Op) -> Iterator[None]:
        """A bulk copy, piece by piece: urgent copies go between."""
        ...

    def submit(self, op: Op) -> Attention:
        """Start CPU attention."""
        ...

    def give_up(self, op: Op) -> None:
        """The op failed: let its rows have any result, they are reported as failed."""
        ...

    def sampled(self) -> Sampled:
        """What the step produced, once `head` has run."""
        ...


class Backend(Protocol):
    """What lanes do: a real model, or pretended durations."""

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model."""
        ...

    def admit(self, request: Request) -> None:
        """A request exists from now on."""
        ...

    def release(self, request_id: int) -> None:
        """The request has ended."""
        ...

    def begin(self, plan: StepPlan, before: Carry) -> StepWork:
        """Prepare a step on the caller's thread; `before` has the cohorts that are outstanding."""
        ...

    def drop(self, cohort: int) -> None:
        """A cohort was given up: nobody will join it."""
        ...
