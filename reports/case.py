"""What a verdict on one scenario looks at: the best hybrid and its comparisons; judges nothing."""

from dataclasses import dataclass

from apexbench.reports.latency_claim import LatencyClaim, latency_claim
from apexbench.reports.outcome import GOODPUT, THROUGHPUT, TPOT, Outcome, Scenario
from apexbench.reports.robustness import draws_of
from apexbench.reports.tpot_target import TargetCheck, target_check
from apexbench.reports.trust import withheld
from apexbench.result import Comparison, Draws, Variant


def best_hybrid(outcome: Outcome, scenario: Scenario) -> Variant | None:
    """The hybrid with the highest mean throughput at saturation, else goodput online.

    None where no hybrid ran, none produced anything, or the runs are not to be trusted.
    """
    if withheld(outcome, scenario):
        return None
    setting, metric = scenario.saturation, THROUGHPUT
    if not outcome.hybrids_at(setting):
        setting, metric = scenario.online, GOODPUT
    means = {v.id: outcome.mean(setting, v.id, metric) or 0.0 for v in outcome.hybrids_at(setting)}
    able = [v for v in outcome.hybrids_at(setting) if means[v.id] > 0]
    return max(able, key=lambda v: means[v.id], default=None)


@dataclass(frozen=True, slots=True)
class Case:
    """The best hybrid of a scenario against gpu-only; None is what the document does not hold."""

    outcome: Outcome
    scenario: Scenario
    best: Variant

    @property
    def saturation(self) -> Comparison | None:
        """Throughput at saturation."""
        return self.outcome.comparison(self.scenario.saturation, self.best.id, THROUGHPUT)

    @property
    def latency(self) -> Comparison | None:
        """Median TPOT at the rate where latency is judged."""
        return self.outcome.comparison(self.scenario.online, self.best.id, TPOT)

    @property
    def draws(self) -> Draws | None:
        """Draws of the device constants."""
        return draws_of(self.outcome, self.scenario, self.best.id)

    @property
    def claim(self) -> LatencyClaim | None:
        """Latency at all finite rates."""
        return latency_claim(self.outcome, self.scenario, self.best.id)

    @property
    def target(self) -> TargetCheck | None:
        """TPOT at saturation against its target."""
        return target_check(self.outcome, self.scenario, self.best.id)

    @property
    def rivals(self) -> tuple[Comparison, ...]:
        """Throughput of GPU-only variants other than the baseline at saturation."""
        setting = self.scenario.saturation
        rivals = (
            self.outcome.comparison(setting, rival.id, THROUGHPUT)
            for rival in self.outcome.rivals_at(setting)
        )
        return tuple(rival for rival in rivals if rival is not None)

    def is_other_model(self, rival: Comparison) -> bool:
        """Whether a rival has other weights, so that its answers may be worse."""
        changed = (v.overrides for v in self.outcome.variants if v.id == rival.candidate)
        return any("weights" in overrides for overrides in changed)
