"""Candidates against a baseline, paired by seed; forms ratios and verdicts, but no sentences."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apexbench.metrics.latencies import TIER_LATENCIES, TIERS, Tier
from apexbench.result import Comparison, Metrics, Quantiles, Run, Setting, TierLatency
from apexbench.statistics import paired_log_ratio, verdict

_Reading = Callable[[Run], float | None]


@dataclass(frozen=True, slots=True)
class ComparedMetric:
    """How to read a metric off a run of either side, and which way is up.

    `holds_in_backlog` False: with everything queued at t = 0 it measures how much was queued.
    """

    higher_is_better: bool
    holds_in_backlog: bool
    candidate: _Reading
    baseline: _Reading


@dataclass(frozen=True, slots=True)
class Gap:
    """A comparison that could not be made: of a `metric`, or of all where that is None."""

    setting: str
    candidate: str
    metric: str | None
    reason: str


def _rate(name: str, *, holds_in_backlog: bool) -> ComparedMetric:
    def reading(run: Run) -> float:
        return float(getattr(run.metrics, name))

    return ComparedMetric(True, holds_in_backlog, reading, reading)


def _overall(latency: str, percentile: str) -> _Reading:
    return lambda run: _percentile(run.metrics, latency, percentile)


def _of_tier(tier: Tier, latency: str, percentile: str) -> _Reading:
    """None where the CPU tier served nothing: the GPU tier is then the whole run once more."""

    def reading(run: Run) -> float | None:
        served = run.latency_by_tier.get(tier)
        if served is None or run.latency_by_tier.get("cpu") is None:
            return None
        return _percentile(served, latency, percentile)

    return reading


def _percentile(holder: Metrics | TierLatency, latency: str, percentile: str) -> float | None:
    summary: Quantiles = getattr(holder, latency)
    found: float | None = getattr(summary, percentile)
    return found


def _latencies() -> Iterator[tuple[str, ComparedMetric]]:
    """ "tpot_p90_s" over all requests, then "cpu_tier_tpot_p90_s" over those of one tier."""
    for tier in (None, *TIERS):
        prefix = f"{tier}_tier_" if tier else ""
        for latency in TIER_LATENCIES:
            holds = latency == "tpot_s"  # the others contain the time spent in the queue
            for name in COMPARED_PERCENTILES:
                overall = _overall(latency, name)
                candidate = _of_tier(tier, latency, name) if tier else overall
                metric = ComparedMetric(False, holds, candidate, overall)
                yield f"{prefix}{latency.removesuffix('_s')}_{name}_s", metric


COMPARED_PERCENTILES = ("p50", "p90")
# Without request throughput: it is output throughput divided by the mean output length, which both
# sides share because they served the same requests. It would be the same row twice.
COMPARED_METRICS: Mapping[str, ComparedMetric] = {
    "output_throughput_tok_s": _rate("output_throughput_tok_s", holds_in_backlog=True),
    "goodput_rps": _rate("goodput_rps", holds_in_backlog=False),
    **dict(_latencies()),
}

NO_COMMON_SEED = "they have no seed in common"
UNEQUAL_SETS = "they did not complete the same requests"
ZERO = "one side has none of it in some seed"

_Pairs = Sequence[tuple[Run, Run]]


def comparisons(
    runs: Sequence[Run], settings: Iterable[Setting], baseline: str = "gpu-only"
) -> tuple[tuple[Comparison, ...], tuple[Gap, ...]]:
    """Every other variant against `baseline`, per setting and metric, paired by seed.

    A candidate whose served set differs from the baseline's under any common seed is left out as a
    whole: keeping only the seeds that agree would select the ones it coped with. Where the rate is
    None only the metrics that hold in a backlog are compared. A percentile refused for lack of
    samples under any seed is not compared, and is no gap: the run itself shows that it is missing.

    A metric such as `cpu_tier_tpot_p90_s` is the candidate's TPOT over the requests that its CPU
    tier served, against the baseline's over *all* its requests: gpu-only has no CPU tier. There is
    none where the CPU tier served nothing.
    """
    backlog = {setting.id for setting in settings if setting.rate_rps is None}
    found: list[Comparison] = []
    gaps: list[Gap] = []
    for setting, variants in _by_setting(runs).items():
        references = variants.pop(baseline, {})
        names = _metrics_at(is_backlog=setting in backlog)
        for candidate, by_seed in variants.items():
            pairs = [(run, references[seed]) for seed, run in by_seed.items() if seed in references]
            fault = _pairing_fault(pairs)
            if fault is not None:
                gaps.append(Gap(setting, candidate, None, fault))
                continue
            rows, missing = _compare(pairs, names)
            found += rows
            gaps += [Gap(setting, candidate, name, ZERO) for name in missing]
    return tuple(found), tuple(gaps)


def _metrics_at(*, is_backlog: bool) -> tuple[str, ...]:
    return tuple(
        name
        for name, metric in COMPARED_METRICS.items()
        if metric.holds_in_backlog or not is_backlog
    )


def _by_setting(runs: Iterable[Run]) -> dict[str, dict[str, dict[int, Run]]]:
    """setting -> variant -> seed -> run, in order of appearance and of seed."""
    table: dict[str, dict[str, dict[int, Run]]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        table.setdefault(run.setting, {}).setdefault(run.variant, {})[run.seed] = run
    return table


def _pairing_fault(pairs: _Pairs) -> str | None:
    if not pairs:
        return NO_COMMON_SEED
    unequal = [c.seed for c, b in pairs if c.served_set_sha256 != b.served_set_sha256]
    if unequal:
        return f"{UNEQUAL_SETS} (seed {', '.join(map(str, unequal))})"
    return None


def _compare(pairs: _Pairs, names: Iterable[str]) -> tuple[list[Comparison], list[str]]:
    """Rows, and the metrics that are zero on some side: there is no ratio to nothing.

    Zero or missing under one seed leaves a metric out as a whole: the other seeds would be a
    selection, for a tier even one that the candidate made.
    """
    rows: list[Comparison] = []
    missing: list[str] = []
    for name in names:
        metric = COMPARED_METRICS[name]
        values = [(metric.candidate(candidate), metric.baseline(base)) for candidate, base in pairs]
        if any(value == 0 for pair in values for value in pair):
            missing.append(name)
        elif all(value is not None for pair in values for value in pair):
            rows += _row(pairs[0], name, values, higher_is_better=metric.higher_is_better)
    return rows, missing


def _row(
    runs: tuple[Run, Run],
    name: str,
    values: Sequence[tuple[float | None, float | None]],
    *,
    higher_is_better: bool,
) -> Iterator[Comparison]:
    ratio = paired_log_ratio([c for c, _ in values], [b for _, b in values])
    candidate, base = runs
    if ratio.ratio is not None:
        yield Comparison(
            setting=candidate.setting,
            baseline=base.variant,
            candidate=candidate.variant,
            metric=name,
            ratio=ratio.ratio,
            ci_low=ratio.ci_low,
            ci_high=ratio.ci_high,
            n=ratio.n,
            verdict=verdict(ratio, higher_is_better),
        )
