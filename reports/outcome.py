"""A result document indexed the way reports ask for it; looks things up, concludes nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, log

from apexbench.result import Comparison, Quantiles, Result, Run, Setting, Variant

BASELINE = "gpu-only"
SATURATION_LABEL = "inf"
ONLINE_LOAD = 0.8  # fraction of gpu-only's saturation at which latency is judged
THROUGHPUT = "output_throughput_tok_s"
GOODPUT = "goodput_rps"
TPOT = "tpot_p50_s"
TTFT = "ttft_p50_s"
GPU_TIER_TPOT = f"gpu_tier_{TPOT}"
CPU_TIER_TPOT = f"cpu_tier_{TPOT}"
MORE_IS_BETTER = frozenset(
    {
        THROUGHPUT,
        GOODPUT,
        "total_throughput_tok_s",
        "request_throughput_rps",
        "slo_attainment",
    }
)
_PERCENTILES = ("mean", "p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings that differ only by rate: finite ones by rising rate, and where to judge what."""

    name: str
    settings: tuple[Setting, ...]
    saturation: Setting | None  # throughput is compared here
    online: Setting | None  # latency is compared here

    @property
    def finite(self) -> tuple[Setting, ...]:
        """The settings with a finite request rate."""
        return tuple(setting for setting in self.settings if setting.rate_rps is not None)

    @property
    def judged(self) -> tuple[Setting, ...]:
        """The settings that verdicts rest on."""
        return tuple(s for s in (self.saturation, self.online) if s is not None)

    @property
    def any_setting(self) -> Setting:
        """A setting to read what all share: hardware, model, traffic."""
        return self.settings[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Lookups over one result; variants keep the order of the document."""

    result: Result
    scenarios: tuple[Scenario, ...]
    variants: tuple[Variant, ...]
    _runs: dict[tuple[str, str], tuple[Run, ...]]
    _comparisons: dict[tuple[str, str, str], Comparison]

    def runs(self, setting: Setting | None, variant: str) -> tuple[Run, ...]:
        """The runs of a cell by rising seed; none where the setting is absent."""
        return () if setting is None else self._runs.get((setting.id, variant), ())

    def first_run(self, setting: Setting | None, variant: str) -> Run | None:
        """The run with the smallest seed."""
        return next(iter(self.runs(setting, variant)), None)

    def variants_at(self, setting: Setting | None) -> tuple[Variant, ...]:
        """The variants that ran in a setting."""
        return tuple(v for v in self.variants if self.runs(setting, v.id))

    def hybrids_at(self, setting: Setting | None) -> tuple[Variant, ...]:
        """The variants that may use the CPU for attention."""
        return tuple(v for v in self.variants_at(setting) if is_hybrid(v))

    def rivals_at(self, setting: Setting | None) -> tuple[Variant, ...]:
        """GPU-only variants other than the baseline, such as one with int4 weights."""
        everyone = self.variants_at(setting)
        return tuple(v for v in everyone if not is_hybrid(v) and v.id != BASELINE)

    def values(self, setting: Setting | None, variant: str, metric: str) -> tuple[float, ...]:
        """A metric of every run of a cell that has it."""
        found = (metric_of(run, metric) for run in self.runs(setting, variant))
        return tuple(value for value in found if value is not None)

    def mean(self, setting: Setting | None, variant: str, metric: str) -> float | None:
        """Mean over seeds; None where no run has the metric."""
        values = self.values(setting, variant, metric)
        return sum(values) / len(values) if values else None

    def comparison(self, setting: Setting | None, candidate: str, metric: str) -> Comparison | None:
        """Candidate over gpu-only; None where the document does not compare them."""
        return None if setting is None else self._comparisons.get((setting.id, candidate, metric))


def index(result: Result) -> Outcome:
    """Group the settings of a result by scenario and its runs by cell."""
    runs: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(result.runs, key=lambda run: run.seed):
        runs.setdefault((run.setting, run.variant), []).append(run)
    groups: dict[str, list[Setting]] = {}
    for setting in result.settings:
        groups.setdefault(setting.scenario, []).append(setting)
    return Outcome(
        result=result,
        scenarios=tuple(_scenario(name, group, runs) for name, group in groups.items()),
        variants=_variants(result),
        _runs={cell: tuple(found) for cell, found in runs.items()},
        _comparisons={
            (c.setting, c.candidate, c.metric): c
            for c in result.comparisons
            if c.baseline == BASELINE
        },
    )


def is_hybrid(variant: Variant) -> bool:
    """Whether the policy may move work to the CPU: everything but the gpu-only policy."""
    return variant.policy != BASELINE


def metric_of(run: Run, metric: str) -> float | None:
    """A scalar metric of a run by its table name: "goodput_rps", "cpu_tier_tpot_p50_s", …"""
    tier, _, of_tier = metric.rpartition("_tier_")
    holder = run.latency_by_tier.get("cpu" if tier == "cpu" else "gpu") if tier else run.metrics
    if holder is None:
        return None
    stem, _, percentile = of_tier.removesuffix("_s").rpartition("_")
    if percentile in _PERCENTILES:
        return quantile(getattr(holder, f"{stem}_s"), percentile)
    value = getattr(holder, of_tier)
    return None if value is None else float(value)


def quantile(quantiles: Quantiles, percentile: str) -> float | None:
    """One entry of a latency summary."""
    value = getattr(quantiles, percentile)
    return None if value is None else float(value)


def _variants(result: Result) -> tuple[Variant, ...]:
    """The declared variants, then any that only runs mention (hand-edited documents)."""
    found = {variant.id: variant for variant in result.variants}
    for run in result.runs:
        found.setdefault(run.variant, Variant(id=run.variant, policy=run.policy))
    return tuple(found.values())


def _scenario(
    name: str, settings: Iterable[Setting], runs: dict[tuple[str, str], list[Run]]
) -> Scenario:
    ordered = tuple(sorted(settings, key=lambda s: inf if s.rate_rps is None else s.rate_rps))
    saturation = next((s for s in ordered if s.rate_rps is None), None)
    finite = tuple(s for s in ordered if s.rate_rps is not None)
    baseline = runs.get((saturation.id, BASELINE), []) if saturation else []
    rates = [run.metrics.request_throughput_rps for run in baseline]
    saturation_rps = sum(rates) / len(rates) if rates else None
    online = min(finite, key=lambda s: _load_distance(s, saturation_rps), default=None)
    return Scenario(name, ordered, saturation, online)


def _load_distance(setting: Setting, saturation_rps: float | None) -> float:
    """How far a finite rate is from ONLINE_LOAD, as a ratio: 0.4x and 1.6x are equally far."""
    load = _load(setting, saturation_rps)
    return abs(log(load / ONLINE_LOAD)) if load else inf


def _load(setting: Setting, saturation_rps: float | None) -> float | None:
    if setting.rate_label.endswith("x"):
        try:
            return float(setting.rate_label.removesuffix("x"))
        except ValueError:
            return None
    if not saturation_rps or setting.rate_rps is None:
        return None
    return setting.rate_rps / saturation_rps
