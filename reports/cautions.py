"""Reasons to read a verdict with care; they qualify it, they do not change its numbers."""

from collections.abc import Iterator
from dataclasses import dataclass

from apexbench.reports.outcome import BASELINE, Outcome, Scenario
from apexbench.result import Run

EXPLORATORY = "exploratory"
UNSTEADY = "too short to be steady"
PROVISIONAL = frozenset({EXPLORATORY, UNSTEADY})  # a win or loss that may not last


@dataclass(frozen=True, slots=True)
class Caution:
    """A word for a label, and what is the matter."""

    flag: str
    text: str


_SCOPES = {
    "emulated": Caution(
        "GPU emulated", "this validates overlap and the CPU lane, not the model of the GPU."
    ),
    "cpu": Caution(
        "CPU only", "the GPU lane is torch on this CPU; ratios do not transfer to GPUs."
    ),
}


def cautions_of(
    outcome: Outcome, scenario: Scenario, candidate: str, within_target: str | None = None
) -> Iterator[Caution]:
    """What qualifies a verdict on a candidate against gpu-only.

    `within_target` is the hybrid that the verdict names for keeping the TPOT target at saturation.
    """
    setting = scenario.any_setting
    if setting.is_exploratory:
        name = setting.workload_summary.name
        yield Caution(EXPLORATORY, f"the request lengths of {name} are approximated.")
    candidates = _runs(outcome, scenario, candidate)
    others = _runs(outcome, scenario, BASELINE)
    if within_target not in (None, candidate):
        others += outcome.runs(scenario.saturation, within_target)
    yield from _scope(candidates)
    yield from _unsteady(candidates + others)
    yield from _idle_cpu(candidates)
    yield from incomplete(outcome)


def _scope(runs: tuple[Run, ...]) -> Iterator[Caution]:
    """What a verdict must not be quoted for."""
    backends = dict.fromkeys(run.backend for run in runs)
    yield from (_SCOPES[backend] for backend in backends if backend in _SCOPES)


def incomplete(outcome: Outcome) -> Iterator[Caution]:
    """That runs are missing: because they were stopped, or because they failed."""
    if outcome.result.is_interrupted:
        yield Caution("interrupted", "only the runs that finished are in this result.")
    elif outcome.result.is_partial:
        yield Caution("incomplete", "some runs failed; the warnings say which and why.")


def _runs(outcome: Outcome, scenario: Scenario, variant: str) -> tuple[Run, ...]:
    return tuple(run for setting in scenario.judged for run in outcome.runs(setting, variant))


def _unsteady(runs: tuple[Run, ...]) -> Iterator[Caution]:
    short = [run for run in runs if not run.window.is_steady]
    if short:
        reason = f" ({short[0].window.reason})" if short[0].window.reason else ""
        yield Caution(UNSTEADY, f"{len(short)} of the {len(runs)} runs used here{reason}.")


def _idle_cpu(runs: tuple[Run, ...]) -> Iterator[Caution]:
    strategies = {name for run in runs for name, steps in run.decisions.items() if steps}
    if strategies == {"gpu_only"}:
        text = f"every step of {runs[0].variant} was gpu_only in the runs used here."
        yield Caution("CPU never used", text)
