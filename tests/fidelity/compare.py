"""A recorded run against the simulator: replayed, asked again, and run freely."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from apexbench.engine.costs import CostModel
from apexbench.engine.simulate import SimulationSpec, simulate
from tests.fidelity.choices import Agreement, ask_again
from tests.fidelity.record import Outcome, Recorded, outcome_of
from tests.fidelity.replay import measured_steps, outcome_at, replay
from tests.fidelity.terms import Terms, costs_with

MAX_THROUGHPUT_ERROR, MAX_TPOT_ERROR, LEAST_EQUAL = 0.05, 0.10, 0.95


@dataclass(frozen=True, slots=True)
class Error:
    """Simulated over emulated, less one."""

    throughput: float
    tpot: float


@dataclass(frozen=True, slots=True)
class Compared:
    """`replayed`: the recorded plans with the measured work of the host; `modelled`: the same plans
    with what host profile and terms say; `free` and `free_with_terms`: runs of the simulator's own.
    `told_modelled` are choices when the policy is told modelled instead of replayed times.
    """

    recorded: Recorded
    replayed: Error
    modelled: Error
    choices: Agreement
    told_modelled: Agreement
    free: Error
    free_with_terms: Error

    @property
    def is_kept(self) -> bool:
        """Whether replay and choices are within their bounds."""
        return (
            abs(self.replayed.throughput) <= MAX_THROUGHPUT_ERROR
            and abs(self.replayed.tpot) <= MAX_TPOT_ERROR
            and self.choices.share >= LEAST_EQUAL
            and not self.recorded.failed
        )


def compare(recorded: Recorded, host: str, terms: Terms) -> Compared:
    """All comparisons of one run."""
    deployment = recorded.case.deployment(host)
    plain, termed = deployment.costs(), costs_with(deployment, terms)
    replayed = replay(recorded, plain, measured_steps(recorded))
    modelled = replay(recorded, termed)
    return Compared(
        recorded=recorded,
        replayed=_error(recorded, outcome_at(recorded.results, replayed)),
        modelled=_error(recorded, outcome_at(recorded.results, modelled)),
        choices=_asked_again(recorded, replayed),
        told_modelled=_asked_again(recorded, modelled),
        free=_error(recorded, _free(recorded, plain)),
        free_with_terms=_error(recorded, _free(recorded, termed)),
    )


def _free(recorded: Recorded, truth: CostModel) -> Outcome:
    spec = recorded.spec
    return outcome_of(
        simulate(
            SimulationSpec(
                workload=spec.workload,
                policy=spec.policy,
                belief=spec.belief,
                pools=spec.pools,
                truth=truth,
            )
        )
    )


def _asked_again(recorded: Recorded, ends_ns: Sequence[int]) -> Agreement:
    """With times as far behind the end of the step before as they were."""
    real = [0, *(result.end_ns for result in recorded.results)]
    simulated = [0, *ends_ns]

    def to_simulated(time_ns: int) -> int:
        place = bisect_right(real, time_ns) - 1
        return simulated[place] + time_ns - real[place]

    return ask_again(recorded.spec, recorded.asked, to_simulated)


def _error(recorded: Recorded, simulated: Outcome) -> Error:
    real = recorded.outcome
    return Error(simulated.tokens_per_s / real.tokens_per_s - 1, simulated.tpot_s / real.tpot_s - 1)
