"""The traffic each scenario served, and what was left out of it."""

from collections.abc import Iterator

from apexbench.reports.outcome import Outcome
from apexbench.reports.panels import Panel, Table, View, nothing
from apexbench.reports.wording import MISSING, THIN, count, number, rate, seconds
from apexbench.result import LengthSummary, Setting


def build(outcome: Outcome) -> Iterator[Panel]:
    """What the scenarios serve, and how fast it arrives in each setting."""
    settings = [s for scenario in outcome.scenarios for s in scenario.settings]
    if not settings:
        yield nothing("workload", None, "Workload", "the result has no settings.")
        return
    hint = "Where the requests come from, what was left out, and what counts as good."
    traffic = Table(_TRAFFIC, tuple(dict.fromkeys(map(_traffic, settings))), frozenset({2}))
    yield Panel("workload-traffic", "Traffic", hint, traffic, is_wide=True)
    hint = "Lengths as served; arrival CV is 1 for Poisson traffic and higher when it is bursty."
    requests = Table(_REQUESTS, tuple(map(_requests, settings)), frozenset(range(2, 7)))
    yield Panel("workload-requests", "Requests", hint, requests, is_wide=True)


_TRAFFIC = ("scenario", "workload", "max context", "left out or changed", "SLO", "source")
_REQUESTS = (
    "scenario", "rate", "requests", "prompt tokens (mean / p50 / p95 / max)",
    "output tokens (mean / p50 / p95 / max)", "mean rate", "arrival CV",
)  # fmt: skip


def _traffic(setting: Setting) -> tuple[str, ...]:
    summary = setting.workload_summary
    approximated = " (approximated)" if summary.is_approximated else ""
    return (
        setting.scenario,
        summary.name,
        count(setting.max_context),
        "; ".join(f"{count(n)} {why}" for why, n in summary.dropped.items()) or "nothing",
        _slo(setting),
        summary.source + approximated,
    )


def _requests(setting: Setting) -> tuple[str, ...]:
    summary = setting.workload_summary
    mean_rate = summary.mean_rate_rps
    return (
        setting.scenario,
        rate(setting.rate_label, setting.rate_rps),
        count(summary.num_requests),
        _lengths(summary.prompt_tokens),
        _lengths(summary.output_tokens),
        "all at once" if mean_rate is None else f"{number(mean_rate)}{THIN}req/s",
        number(summary.interarrival_cv),
    )


def _lengths(lengths: LengthSummary) -> str:
    return " / ".join(count(v) for v in (lengths.mean, lengths.p50, lengths.p95, lengths.max))


def _slo(setting: Setting) -> str:
    slo = setting.slo
    targets = (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s), ("E2E", slo.e2e_s))
    demanded = [f"{name} ≤ {seconds(target)}" for name, target in targets if target is not None]
    return ", ".join(demanded) or MISSING


VIEW = View(
    id="workload",
    title="Workload",
    lead="Every policy of a setting serves the same requests.",
    place="more",
    build=build,
)
