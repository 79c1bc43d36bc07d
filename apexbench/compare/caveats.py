"""What a reader must know before believing a comparison: the only place where warnings are formed.

Grouped, so that each matter is said once: what is wrong with single runs stands in their windows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from apexbench.metrics.comparisons import Gap
from apexbench.metrics.latencies import TIER_LATENCIES
from apexbench.metrics.window import OVERLOAD
from apexbench.result import Metrics, Quantiles, Run, Setting, TierLatency
from apexbench.statistics import PERCENTILES, samples_needed

DRAW_BAND_END = 0.9
LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s", "latency_per_token_s")

_Cell = tuple[str, str]  # variant, rate in words


def caveats(
    settings: Sequence[Setting], runs: Sequence[Run], gaps: Sequence[Gap], baseline: str
) -> Iterator[str]:
    """Sentences about runs that ended; by scenario, what concerns all of them last."""
    for scenario in dict.fromkeys(setting.scenario for setting in settings):
        own = {s.id: s for s in settings if s.scenario == scenario}
        found = [run for run in runs if run.setting in own]
        yield from _busy_machine(scenario, found)
        yield from _backlog(scenario, [r for r in found if own[r.setting].rate_rps is None])
        online = [run for run in found if own[run.setting].rate_rps is not None]
        yield from _overload(scenario, online, own)
        yield from _too_short(scenario, online, own)
        yield from _not_compared(scenario, [g for g in gaps if g.setting in own], own, baseline)
    yield from _refused_percentiles(runs)


def left_out(scenario: str, num: int, total: int, variants: Sequence[str], limit: int) -> str:
    """Requests no policy serves, because some could not."""
    return (
        f"{scenario}: {num} of {total} requests are left out for every policy, because"
        f" {listed(variants)} cannot hold more than {limit} KV tokens"
    )


def no_saturation(scenario: str, rates: Sequence[str]) -> str:
    """Multiples of a saturation that is not known."""
    return f"{scenario}: nothing at {listed(rates)}, because gpu-only has no throughput to multiply"


def failed(setting: str, variant: str, seed: int, sentence: str) -> str:
    """A run that could not be made."""
    return f"{setting}: {variant} with seed {seed} failed: {sentence}"


def lost(num: int, total: int) -> str:
    """Runs that went with their worker process."""
    return (
        f"a worker process ended unexpectedly (killed, or out of memory): {num} of {total} runs"
        " are missing; use --jobs 1 or fewer requests"
    )


def late(p99_s: float, step_s: float) -> str:
    """Why an emulated run is not to be trusted; without a full stop."""
    return (
        f"one in a hundred emulated operations ended {p99_s * 1e3:.3g} ms too late, which is"
        f" {p99_s / step_s:.0%} of the median step"
    )


def host_rows(scenario: str, tokens: int, rows: int, num_requests: int) -> str:
    """That the host tier, whose memory is real, cannot hold all requests at once."""
    return (
        f"{scenario}: the host tier holds {tokens} KV tokens, about {rows} of the {num_requests}"
        " requests of a run at once: its memory is this machine's (--cpu-kv-tokens)"
    )


def believed_host(scenario: str, host: str) -> str:
    """A belief in another machine's CPU, while the CPU lane is this one's."""
    return (
        f"{scenario}: policies believe in the CPU of {host}, while CPU attention runs on this"
        " machine; measure it (apexbench profile --profile-out local.toml) and add --host"
        " local.toml"
    )


def unfit_draws(scenario: str, num: int, total: int, reason: str) -> str:
    """Draws of the device constants in which not everything can run."""
    return (
        f"{scenario}: {num} of {total} draws of the device constants are left out for every"
        f" policy, because not all of them can run there, for example: {reason}"
    )


def unended_draws(scenario: str, variants: Sequence[str], failures: Iterable[str]) -> str:
    """Variants without draws, because some of their runs are missing."""
    return f"{scenario}: no draws of {listed(variants)}: not all have ended{_first(failures)}"


def unpaired_draws(scenario: str, variants: Sequence[str]) -> str:
    """Variants without draws, because some of theirs have no ratio."""
    return (
        f"{scenario}: no draws of {listed(variants)}: in some, they and the baseline did not"
        " complete the same requests, or one completed none"
    )


def unsteady_draws(scenario: str, unsteady: Mapping[str, int], total: int) -> str:
    """Draws whose runs were too short."""
    names = [f"{name} in {num}" for name, num in unsteady.items()]
    return f"{scenario}: of {total} draws, not steady: {listed(names)}; serve more requests"


def few_draws(num: int) -> str | None:
    """None where that many draws support the ends of an 80 % band."""
    needed = samples_needed(DRAW_BAND_END)
    if num >= needed:
        return None
    return f"{num} draws support no 80 % band: it is rough below --draws {needed}"


def unfit_bar(scenario: str, constant: str, reason: str) -> str:
    """A constant of the tornado that cannot be moved by a sigma."""
    return f"{scenario}: {constant} is not in the tornado: {reason}"


def unended_bars(scenario: str, num: int, total: int, failures: Iterable[str]) -> str:
    """Constants of the tornado whose runs are missing."""
    return f"{scenario}: {num} of {total} bars of the tornado are missing{_first(failures)}"


def unsteady_bars(scenario: str, num: int, total: int) -> str:
    """Runs of the tornado that were too short."""
    return f"{scenario}: {num} of {total} runs of the tornado are not steady; serve more requests"


def swept_shorter(scenario: str, what: str, num: int, usual: int) -> str:
    """Runs of a sweep that are shorter than those of the comparison."""
    return f"{scenario}: the sweep of {what} serves {num} requests per run instead of {usual}"


def swept_without(scenario: str, what: str, num: int, total: int) -> str:
    """Requests that the smallest point of a sweep takes from all."""
    return (
        f"{scenario}: the sweep of {what} leaves out {num} of {total} requests at every point,"
        " because they do not fit at all points"
    )


def swept_unsteady(scenario: str, what: str, unsteady: Mapping[str, int]) -> str:
    """Points of a sweep whose runs were too short."""
    names = [f"{name} at {num} point{'s' if num > 1 else ''}" for name, num in unsteady.items()]
    return f"{scenario}: the sweep of {what} is not steady: {listed(names)}; serve more requests"


def _first(failures: Iterable[str]) -> str:
    first = next(iter(failures), None)
    return "" if first is None else f"; {first}"


def listed(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _busy_machine(scenario: str, runs: Sequence[Run]) -> Iterator[str]:
    busy = [run for run in runs if run.measured and not run.measured.is_trustworthy]
    if busy and busy[0].measured:
        yield (
            f"{scenario}: the machine was too busy in {len(busy)} of {len(runs)} runs, so nothing"
            f" is compared; {busy[0].variant} with seed {busy[0].seed}, for example:"
            f" {busy[0].measured.distrust}; stop what else runs here and repeat"
        )


def _backlog(scenario: str, runs: Sequence[Run]) -> Iterator[str]:
    unsteady = [run for run in runs if not run.window.is_steady]
    if not unsteady:
        return
    seeds = Counter(run.variant for run in runs)
    short = Counter(run.variant for run in unsteady)
    names = [
        name if short[name] == seeds[name] else f"{name} ({short[name]} of {seeds[name]} seeds)"
        for name in short
    ]
    example = _typical(unsteady)
    yield (
        f"{scenario} at saturation: not steady: {listed(names)}; {example.variant} with seed"
        f" {example.seed}, for example: {example.window.reason}"
    )


def _overload(scenario: str, runs: Sequence[Run], settings: dict[str, Setting]) -> Iterator[str]:
    cells = [(run.variant, _rate(settings[run.setting])) for run in runs if _is_overloaded(run)]
    if cells:
        yield (
            f"{scenario}: {_cells(cells)} cannot keep up, so requests queue and latency there"
            " grows with the length of the run; read it at lower rates"
        )


def _too_short(scenario: str, runs: Sequence[Run], settings: dict[str, Setting]) -> Iterator[str]:
    overloaded = {(run.setting, run.variant) for run in runs if _is_overloaded(run)}
    short = [
        run
        for run in runs
        if not run.window.is_steady and (run.setting, run.variant) not in overloaded
    ]
    if short:
        example = _typical(short)
        yield (
            f"{scenario}: too short to be steady: "
            f"{_cells((run.variant, _rate(settings[run.setting])) for run in short)};"
            f" {example.variant} at {_rate(settings[example.setting])} with seed {example.seed},"
            f" for example: {example.window.reason}"
        )


def _is_overloaded(run: Run) -> bool:
    return (run.window.reason or "").startswith(OVERLOAD)


def _typical(runs: Sequence[Run]) -> Run:
    """The first run with the most frequent reason; reasons are alike if only numbers differ."""
    kinds = [re.sub(r"\d[\d.e+]*", "#", run.window.reason or "") for run in runs]
    return runs[kinds.index(Counter(kinds).most_common(1)[0][0])]


def _not_compared(
    scenario: str, gaps: Sequence[Gap], settings: dict[str, Setting], baseline: str
) -> Iterator[str]:
    """One sentence per reason and set of cells, naming all metrics it holds for."""
    by_metric: dict[tuple[str, str | None], list[_Cell]] = {}
    for gap in gaps:
        cell = (gap.candidate, _rate(settings[gap.setting]))
        by_metric.setdefault((gap.reason, gap.metric), []).append(cell)
    by_cells: dict[tuple[str, str], list[str]] = {}
    for (reason, metric), cells in by_metric.items():
        by_cells.setdefault((reason, _cells(cells)), []).extend([metric] if metric else [])
    for (reason, where), metrics in by_cells.items():
        what = f" in {listed(metrics)}" if metrics else ""
        yield f"{scenario}: not compared with {baseline}{what}: {where}: {reason}"


def _refused_percentiles(runs: Iterable[Run]) -> Iterator[str]:
    """One sentence for all latencies; what nothing completed has no samples to be short of."""
    largest: dict[str, int] = {}
    for summary in _summaries(runs):
        for name in PERCENTILES:
            if summary.n and getattr(summary, name) is None:
                largest[name] = max(largest.get(name, 0), summary.n)
    if largest:
        short = [
            f"{name} needs {samples_needed(q)} values and had at most {largest[name]}"
            for name, q in PERCENTILES.items()
            if name in largest
        ]
        yield (
            "percentiles are left out where the sample is too small: "
            f"{listed(short)}; serve more requests"
        )


def _summaries(runs: Iterable[Run]) -> Iterator[Quantiles]:
    for run in runs:
        yield from _quantiles(run.metrics, LATENCIES)
        for tier in run.latency_by_tier.values():
            if tier is not None:
                yield from _quantiles(tier, TIER_LATENCIES)


def _quantiles(holder: Metrics | TierLatency, names: Iterable[str]) -> Iterator[Quantiles]:
    for name in names:
        summary: Quantiles = getattr(holder, name)
        yield summary


def _cells(cells: Iterable[_Cell]) -> str:
    """ "gpu-only and neo at 1x and 1.2x, apex at 1.2x": variants that share their rates first."""
    rates: dict[str, dict[str, None]] = {}
    for variant, rate in cells:
        rates.setdefault(variant, {})[rate] = None
    groups: dict[tuple[str, ...], list[str]] = {}
    for variant, found in rates.items():
        groups.setdefault(tuple(found), []).append(variant)
    return ", ".join(f"{listed(names)} at {listed(found)}" for found, names in groups.items())


def _rate(setting: Setting) -> str:
    if setting.rate_rps is None:
        return "saturation"
    label = setting.rate_label
    return label if label.endswith("x") else f"{label} requests/s"
