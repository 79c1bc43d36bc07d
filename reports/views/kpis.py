"""Cards with the numbers of every policy against gpu-only; the first thing after the verdicts."""

from collections.abc import Iterator

from apexbench.reports.outcome import BASELINE, GOODPUT, THROUGHPUT, TPOT, Outcome, Scenario
from apexbench.reports.palette import styles
from apexbench.reports.panels import Card, Cards, Fact, Panel, View, nothing
from apexbench.reports.plotting import policy_legend
from apexbench.reports.verdicts import best_hybrid
from apexbench.reports.wording import MISSING, count, delta, describe, interval, quantity, rate
from apexbench.result import Comparison, Setting, Variant


def build(outcome: Outcome) -> Iterator[Panel]:
    """One row of cards per scenario: the best hybrid, then every policy as listed."""
    for position, scenario in enumerate(outcome.scenarios):
        variants = _ordered(outcome, scenario)
        if not variants:
            yield nothing("kpis", position, scenario.name, "no run has finished.")
            continue
        best = best_hybrid(outcome, scenario)
        cards = tuple(_card(outcome, scenario, variant, best) for variant in variants)
        hint = f"Changes are against {BASELINE}; grey ones are not significant."
        yield Panel(f"kpis-{position}", scenario.name, hint, Cards(cards), position, is_wide=True)


def _ordered(outcome: Outcome, scenario: Scenario) -> list[Variant]:
    shown = outcome.variants_at(scenario.saturation) or outcome.variants_at(scenario.online)
    best = best_hybrid(outcome, scenario)
    return sorted(shown, key=lambda variant: variant != best)


def _card(outcome: Outcome, scenario: Scenario, variant: Variant, best: Variant | None) -> Card:
    mark = policy_legend(styles(v.id for v in outcome.variants), [variant.id])[0]
    tag = "baseline" if variant.id == BASELINE else "best hybrid" if variant == best else ""
    facts = [
        *_fact(outcome, scenario.saturation, variant, THROUGHPUT),
        *_fact(outcome, scenario.online, variant, TPOT),
        *_fact(outcome, scenario.online, variant, GOODPUT),
        _kv_fact(outcome, scenario, variant),
    ]
    return Card(variant.id, mark, tag, tuple(facts))


def _fact(
    outcome: Outcome, setting: Setting | None, variant: Variant, metric: str
) -> Iterator[Fact]:
    if setting is None:
        return
    words = describe(metric)
    where = rate(setting.rate_label, setting.rate_rps)
    value = quantity(outcome.mean(setting, variant.id, metric), metric)
    found = outcome.comparison(setting, variant.id, metric)
    title = f"{words.name}, {where}"
    if found is None:
        yield Fact(title, value)
    else:
        yield Fact(title, value, delta(found.ratio), _shown_verdict(found), _evidence(found))


def _shown_verdict(found: Comparison) -> str:
    return "no_significant_difference" if found.ci_low is None else found.verdict


def _evidence(found: Comparison) -> str:
    """Factors rather than percentages: an interval of factors is what the verdict quotes."""
    if found.ci_low is None:
        return f"n = {found.n}, no interval"
    return f"ratio 95 % {interval(found.ci_low, found.ci_high)}, n = {found.n}"


def _kv_fact(outcome: Outcome, scenario: Scenario, variant: Variant) -> Fact:
    setting = scenario.saturation or scenario.online
    run = outcome.first_run(setting, variant.id)
    if run is None:
        return Fact("GPU KV tokens", MISSING)
    host = f"+ {count(run.cpu_kv_tokens)} on the host" if run.cpu_kv_tokens else ""
    return Fact("GPU KV tokens", count(run.gpu_kv_tokens), detail=host)


VIEW = View(
    id="kpis",
    title="At a glance",
    lead="Throughput where the queue never empties; latency and goodput below saturation.",
    place="first",
    build=build,
)
