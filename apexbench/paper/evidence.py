"""Ratios between policies, read off the results of the page's runs; forms no sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apexbench.compare.variants import BASELINE
from apexbench.metrics.comparisons import comparisons
from apexbench.result import Result, Run, Setting

THROUGHPUT = "output_throughput_tok_s"
BACKLOG = "inf"
USUAL_KERNEL = "paper"
_SMALLEST_SHARE = 1e-3
# Ends of the 80 % band, and the median.
_BAND = (0.1, 0.5, 0.9)

Named = tuple[str, str]  # run id, variant
Basis = Literal["draws", "seeds", "one run", "profile"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A ratio with what is known of its spread.

    "draws": median and 80 % band over `n` draws of the true constants; "seeds": geometric mean and
    95 % interval; "one run" and "profile" have no spread, `low` and `high` equal `value`.
    """

    value: float
    low: float
    high: float
    n: int
    basis: Basis

    def overlaps(self, low: float, high: float) -> bool:
        """Whether any of it lies within these bounds."""
        return self.low <= high and self.high >= low


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that ran, by run id of the plan."""

    results: Mapping[str, Result]

    def setting(self, run_id: str, rate: str = BACKLOG) -> Setting:
        """The setting of a run at one rate."""
        return next(s for s in self.results[run_id].settings if s.rate_label == rate)

    def case(self, run_id: str, rate: str = BACKLOG) -> str:
        """GPU and workload, with whatever is not usual: kernel, KV capacity, rate."""
        setting = self.setting(run_id, rate)
        tokens = self.results[run_id].config["gpu_kv_tokens"]
        words = [setting.gpu, setting.workload]
        if setting.cpu_kernel != USUAL_KERNEL:
            words.append(f"with {setting.cpu_kernel}")
        if tokens is not None:
            words.append(f"with {tokens} GPU KV tokens")
        if rate != BACKLOG:
            words.append(f"at {rate}")
        return " ".join(words)

    def is_measured(self, run_id: str) -> bool:
        """Whether its lengths may enter a verdict: measured or asked for, not assumed."""
        return not self.results[run_id].settings[0].is_exploratory

    def is_steady(self, run_id: str, variants: Sequence[str], rate: str = BACKLOG) -> bool:
        """Whether every run of these policies was long enough."""
        runs = (run for name in variants for run in self.runs(run_id, name, rate))
        return all(run.window.is_steady for run in runs)

    def runs(self, run_id: str, variant: str, rate: str = BACKLOG) -> tuple[Run, ...]:
        """One per seed, in their order."""
        setting = self.setting(run_id, rate).id
        found = (r for r in self.results[run_id].runs if r.setting == setting)
        return tuple(run for run in found if run.variant == variant)

    def variants(self, run_id: str) -> tuple[str, ...]:
        """In the order in which they ran, gpu-only first."""
        return tuple(variant.id for variant in self.results[run_id].variants)

    def gain(self, run_id: str, candidate: str, baseline: str = BASELINE) -> Estimate | None:
        """Output throughput at saturation, candidate / baseline.

        Over the draws where they were made, else over the seeds. None where the two did not serve
        the same requests.
        """
        drawn = self._drawn(run_id, candidate, baseline)
        return drawn or self.ratio(run_id, BACKLOG, THROUGHPUT, candidate, baseline)

    def ratio(
        self, run_id: str, rate: str, metric: str, candidate: str, baseline: str = BASELINE
    ) -> Estimate | None:
        """candidate / baseline of a compared metric, paired by seed; None where refused."""
        result = self.results[run_id]
        setting = self.setting(run_id, rate)
        chosen = [
            run
            for run in result.runs
            if run.setting == setting.id and run.variant in (candidate, baseline)
        ]
        pairs, _ = comparisons(chosen, (setting,), baseline)
        found = next((pair for pair in pairs if pair.metric == metric), None)
        if found is None:
            return None
        if found.ci_low is None or found.ci_high is None:
            return Estimate(found.ratio, found.ratio, found.ratio, found.n, "one run")
        return Estimate(found.ratio, found.ci_low, found.ci_high, found.n, "seeds")

    def across(self, candidate: Named, baseline: Named) -> Estimate | None:
        """Throughput at saturation over two results: geometric mean over seeds, no interval.

        None where they did not serve the same requests.
        """
        pairs = list(zip(self.runs(*candidate), self.runs(*baseline), strict=True))
        if any(ours.served_set_sha256 != theirs.served_set_sha256 for ours, theirs in pairs):
            return None
        logs = [np.log(_rate(ours) / _rate(theirs)) for ours, theirs in pairs]
        value = float(np.exp(np.mean(logs)))
        return Estimate(value, value, value, len(pairs), "one run")

    def throughput(self, run_id: str, variant: str) -> float:
        """Output tokens per second at saturation, mean over the seeds."""
        return float(np.mean([_rate(run) for run in self.runs(run_id, variant)]))

    def _drawn(self, run_id: str, candidate: str, baseline: str) -> Estimate | None:
        draws = [self.runs(run_id, variant)[0].draws for variant in (candidate, baseline)]
        ours, theirs = draws
        if ours is None or theirs is None or not ours.n == theirs.n > 0:
            return None
        ratios = np.array(ours.throughput_tok_s) / np.array(theirs.throughput_tok_s)
        low, median, high = np.quantile(ratios, _BAND).tolist()
        return Estimate(median, low, high, ours.n, "draws")


def _rate(run: Run) -> float:
    return run.metrics.output_throughput_tok_s


def strategy_shares(run: Run) -> list[tuple[str, float]]:
    """Share of steps per strategy, the most frequent first; none of less than a thousandth."""
    total = sum(run.decisions.values())
    shares = [(name, steps / total) for name, steps in run.decisions.items()]
    shares = [(name, part) for name, part in shares if part >= _SMALLEST_SHARE]
    return sorted(shares, key=lambda item: (-item[1], item[0]))


def unsteady(results: Sequence[Result]) -> int:
    """Runs that were too short to be steady."""
    return sum(not run.window.is_steady for result in results for run in result.runs)
