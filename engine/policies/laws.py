"""What no policy may do, whatever it decides; each law by name. Checks choices, makes none."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol

from apexbench.engine.policies.base import Candidates, Choice, Limits
from apexbench.engine.sequence import Tier
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import PolicyError


class Law(StrEnum):
    """The laws of a choice."""

    ANSWERS = "choose() returns a Choice"
    IDS = "a Choice consists of tuples of sequence ids"
    ONE_PLACE = "a row has one place per step"
    KNOWN = "only sequences in flight are placed"
    FREE = "only free CPU rows are placed"
    DROPS = "only prompts of this step that are bound for the host are dropped"
    EITHER = "cohorts are frozen or promoted, not both"
    DECLARED = "only a policy with defers = True defers"
    COHORTS = "at most L + 1 cohorts are outstanding, L being the model's layers"
    SLOTS = "no more rows are deferred than memory was set aside for"
    PLANNING = "planning_ns is a whole number of at least 0"
    PACES = "limits() returns Limits, whole numbers of at least 0"
    ADMITS = "limits() lets a prompt in when nothing else can run"


class Placeable(Protocol):
    """A sequence in flight, as far as a law asks."""

    @property
    def is_free(self) -> bool:
        """It is a CPU row that may start a token."""
        ...


class ChoiceLaws:
    """Checks the choices of one policy in one run."""

    __slots__ = ("_defers", "_max_cohorts", "_max_deferred_rows", "_name")

    def __init__(self, name: str, *, num_layers: int, thresholds: Thresholds, defers: bool) -> None:
        self._name = name
        self._defers = defers
        self._max_cohorts = num_layers + 1
        self._max_deferred_rows = thresholds.max_deferred_rows or thresholds.max_running_rows

    def check(
        self, step: int, work: Candidates, choice: Choice, in_flight: Mapping[int, Placeable]
    ) -> None:
        """PolicyError names the first law that `choice` breaks; `in_flight` is by sequence id."""
        if not isinstance(choice, Choice):
            raise self._broken(Law.ANSWERS, step, f"it returned {_short(choice)}")
        in_layer_a, in_layer_b, enter, drops, freezes, promotes, planning_ns = choice
        if not (type(in_layer_a) is type(in_layer_b) is type(enter) is type(drops) is tuple):
            raise self._broken(Law.IDS, step, f"it returned {_short(choice)}")
        if in_layer_a or in_layer_b or enter:
            self._check_rows(step, (*in_layer_a, *in_layer_b, *enter), in_flight)
        if enter:
            self._check_entry(step, work, len(enter))
        if drops:
            self._check_drops(step, work, drops)
        if freezes and promotes:
            raise self._broken(Law.EITHER, step, "it asked for both")
        if not _is_count(planning_ns):
            raise self._broken(Law.PLANNING, step, f"it gave {_short(planning_ns)}")

    def check_limits(self, step: int, limits: Limits, *, is_idle: bool) -> None:
        """PolicyError when a policy that sets the pace breaks a law; `is_idle`: prompts are all
        there is to run.
        """
        if not isinstance(limits, Limits):
            raise self._broken(Law.PACES, step, f"it returned {_short(limits)}")
        tokens, on_host = limits
        if not _is_count(tokens) or not (on_host is None or _is_count(on_host)):
            raise self._broken(Law.PACES, step, f"it returned {_short(limits)}")
        if is_idle and not tokens:
            raise self._broken(Law.ADMITS, step, "it allowed no prompt token")

    def raised(self, step: int, error: Exception, law: Law = Law.ANSWERS) -> PolicyError:
        """The error to raise when the policy itself raised one where `law` is to be kept."""
        place = error.__traceback__ and error.__traceback__.tb_next  # the policy's own frame
        return self._broken(law, step, f"it raised {reason(error, place)}")

    def _check_rows(
        self, step: int, chosen: tuple[int, ...], in_flight: Mapping[int, Placeable]
    ) -> None:
        try:
            num_unique = len(set(chosen))
        except TypeError:
            raise self._broken(Law.IDS, step, f"it placed {_short(chosen)}") from None
        for row_id in chosen:
            row = in_flight.get(row_id)
            if row is None or not row.is_free:
                law = Law.KNOWN if row is None else Law.FREE
                raise self._broken(law, step, f"it placed sequence {_short(row_id)}")
        if num_unique < len(chosen):
            twice = next(row_id for row_id in chosen if chosen.count(row_id) > 1)
            raise self._broken(Law.ONE_PLACE, step, f"it placed sequence {_short(twice)} twice")

    def _check_entry(self, step: int, work: Candidates, count: int) -> None:
        if not self._defers:
            raise self._broken(Law.DECLARED, step, f"it began a cohort of {count} rows")
        if work.num_cohorts >= self._max_cohorts:
            detail = f"it began another one beside {work.num_cohorts}"
            raise self._broken(Law.COHORTS, step, detail)
        if work.deferred_rows + count > self._max_deferred_rows:
            detail = f"it deferred {count} rows beside {work.deferred_rows}"
            raise self._broken(Law.SLOTS, step, f"{detail}, of at most {self._max_deferred_rows}")

    def _check_drops(self, step: int, work: Candidates, drops: tuple[int, ...]) -> None:
        bound = [chunk.sequence for chunk in work.chunks if chunk.tier is Tier.CPU]
        for sequence in drops:
            if sequence not in bound:
                raise self._broken(Law.DROPS, step, f"it dropped sequence {_short(sequence)}")

    def _broken(self, law: Law, step: int, detail: str) -> PolicyError:
        return PolicyError(f"policy '{self._name}' broke a law in step {step}: {law}; {detail}")


def reason(error: BaseException, place: TracebackType | None) -> str:
    """What was raised, and where if `place` is known, in one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if place is None:
        return text
    return f"{text} ({Path(place.tb_frame.f_code.co_filename).name}, line {place.tb_lineno})"


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


_MAX_SHOWN = 80


def _short(value: object) -> str:
    """One line, not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
