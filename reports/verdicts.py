"""What a comparison says, one verdict per scenario: the only place where sentences are formed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apexbench.reports.cautions import PROVISIONAL, Caution, cautions_of, interrupted
from apexbench.reports.evidence import evidence, significance
from apexbench.reports.latency_claim import LatencyClaim, claim_sentence, latency_claim
from apexbench.reports.losses import Cell, LossReport, is_clearly_worse, where_hybrid_loses
from apexbench.reports.outcome import (
    BASELINE,
    CPU_TIER_TPOT,
    GOODPUT,
    THROUGHPUT,
    TPOT,
    Outcome,
    Scenario,
    index,
)
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.robustness import NOT_ROBUST, draws_of, is_robust, robustness_sentence
from apexbench.reports.wording import (
    count,
    describe,
    quantity,
    rate,
    seconds,
    times,
)
from apexbench.result import Comparison, Draws, Result, Setting, Variant

__all__ = ["Caution", "Cell", "LossReport", "Tone", "Verdict", "verdicts", "where_hybrid_loses"]

Tone = Literal["win", "loss", "unclear"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one scenario says about hybrids against gpu-only, with every number it rests on."""

    scenario: str
    tone: Tone
    label: str
    candidate: str | None  # the best hybrid, the one the sentences speak of
    sentences: tuple[Sentence, ...]
    cautions: tuple[Caution, ...]

    @property
    def sentence(self) -> str:
        """All of it as plain text, cautions last."""
        cautions = [f"{c.flag[0].upper()}{c.flag[1:]}: {c.text}" for c in self.cautions]
        return " ".join([part.text for part in self.sentences] + cautions)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every number the sentences use, exactly as in the document."""
        return tuple(found for part in self.sentences for found in part.numbers)


def verdicts(result: Result) -> tuple[Verdict, ...]:
    """One verdict per scenario, in the order of the document."""
    outcome = index(result)
    return tuple(_verdict(outcome, scenario) for scenario in outcome.scenarios)


def best_hybrid(outcome: Outcome, scenario: Scenario) -> Variant | None:
    """The hybrid with the highest mean throughput at saturation, else goodput online.

    None where no hybrid ran or none produced anything.
    """
    setting, metric = scenario.saturation, THROUGHPUT
    if not outcome.hybrids_at(setting):
        setting, metric = scenario.online, GOODPUT
    means = {v.id: outcome.mean(setting, v.id, metric) or 0.0 for v in outcome.hybrids_at(setting)}
    able = [v for v in outcome.hybrids_at(setting) if means[v.id] > 0]
    return max(able, key=lambda v: means[v.id], default=None)


@dataclass(frozen=True, slots=True)
class _Case:
    """What a verdict on one scenario looks at."""

    outcome: Outcome
    scenario: Scenario
    best: Variant

    @property
    def saturation(self) -> Comparison | None:
        return self.outcome.comparison(self.scenario.saturation, self.best.id, THROUGHPUT)

    @property
    def latency(self) -> Comparison | None:
        return self.outcome.comparison(self.scenario.online, self.best.id, TPOT)

    @property
    def draws(self) -> Draws | None:
        return draws_of(self.outcome, self.scenario, self.best.id)

    @property
    def claim(self) -> LatencyClaim | None:
        return latency_claim(self.outcome, self.scenario, self.best.id)


def _verdict(outcome: Outcome, scenario: Scenario) -> Verdict:
    obstacle = _obstacle(outcome, scenario)
    best = best_hybrid(outcome, scenario)
    if obstacle is not None or best is None:
        reason = sentence(obstacle or "No hybrid policy ran, so there is nothing to compare.")
        cautions = tuple(interrupted(outcome))
        return Verdict(scenario.name, "unclear", "Nothing to compare", None, (reason,), cautions)
    case = _Case(outcome, scenario, best)
    tone, label = _judge(case)
    cautions = tuple(cautions_of(outcome, scenario, best.id))
    if tone != "unclear" and PROVISIONAL.intersection(caution.flag for caution in cautions):
        label += ", provisionally"
    sentences = (
        _throughput(case),
        *_robustness(case),
        *_rivals(case),
        _latency(case),
        *_claim(case),
        *_kv_tokens(case),
    )
    return Verdict(scenario.name, tone, label, best.id, sentences, cautions)


def _obstacle(outcome: Outcome, scenario: Scenario) -> str | None:
    """Why nothing can be concluded, as a sentence."""
    runs = [r for s in scenario.settings for v in outcome.variants for r in outcome.runs(s, v.id)]
    if not runs:
        return "No run of this scenario has finished, so there is nothing to compare."
    if not any(run.metrics.completed for run in runs):
        return (
            "No request completed in any run of this scenario, so there is nothing to compare; "
            "the reasons stand in the table of failures."
        )
    if not any(run.variant == BASELINE for run in runs):
        return f"{BASELINE} did not run, so there is no baseline to compare with."
    return None


def _judge(case: _Case) -> tuple[Tone, str]:
    throughput, latency = case.saturation, case.latency
    decisive = throughput or latency
    if decisive is None:
        return "unclear", "Not comparable"
    if decisive.ci_low is None:
        return "unclear", "One seed: not established"
    if decisive.verdict == "no_significant_difference":
        return "unclear", "No significant difference"
    if throughput and case.draws and not is_robust(case.draws, throughput.ratio):
        return "unclear", f"{NOT_ROBUST[0].upper()}{NOT_ROBUST[1:]}"
    if decisive.verdict == "worse":
        return "loss", "Hybrid loses"
    return _judge_win(case)


def _judge_win(case: _Case) -> tuple[Tone, str]:
    """A hybrid that beats gpu-only may still not be the best answer."""
    reservation = _faster_rival(case) or _lost_latency(case)
    return ("unclear", f"Mixed: {reservation}") if reservation else ("win", "Hybrid wins")


def _faster_rival(case: _Case) -> str | None:
    throughput, rivals = case.saturation, _rivals_of(case)
    if throughput is None:
        return None
    if any(is_clearly_worse(throughput, rival) for rival in rivals):
        return "GPU-only with smaller weights is faster"
    if any(rival.ratio > throughput.ratio for rival in rivals):
        return "GPU-only with smaller weights may be faster"
    return None


def _lost_latency(case: _Case) -> str | None:
    if case.claim is None or case.claim.status != "lost":
        return None
    gain = "more throughput" if case.saturation is not None else "lower median TPOT"
    return f"{gain}, higher latency"


def _throughput(case: _Case) -> Sentence:
    setting = case.scenario.saturation
    if setting is None:
        return sentence("Saturation was not run, so throughput is not compared.")
    ours = case.outcome.mean(setting, case.best.id, THROUGHPUT)
    theirs = case.outcome.mean(setting, BASELINE, THROUGHPUT)
    found = case.saturation
    if found is None:
        return _not_comparable(case, setting)
    return sentence(
        Name(case.best.id), _rank(case), " gives ",
        Number("throughput_ratio", found.ratio, times(found.ratio)),
        " the output throughput of ", Name(BASELINE), " at saturation (",
        evidence("throughput", found), "): ",
        _measured("throughput", ours, THROUGHPUT), " against ",
        _measured("baseline_throughput", theirs, THROUGHPUT), significance(found), ".",
    )  # fmt: skip


def _robustness(case: _Case) -> Iterator[Sentence]:
    if case.draws is not None:
        found = case.saturation
        yield robustness_sentence(case.best.id, case.draws, found.ratio if found else None)


def _rank(case: _Case) -> str:
    others = len(case.outcome.hybrids_at(case.scenario.saturation))
    return f", the best of {others} hybrids," if others > 1 else ""


def _latency(case: _Case) -> Sentence:
    setting = case.scenario.online
    if setting is None:
        return sentence("No finite rate was run, so latency is not compared.")
    found = case.latency
    if found is None:
        return _not_comparable(case, setting)
    ours = case.outcome.mean(setting, case.best.id, TPOT)
    theirs = case.outcome.mean(setting, BASELINE, TPOT)
    return sentence(
        f"At {rate(setting.rate_label, setting.rate_rps)} its median TPOT is ",
        Number("tpot_ratio", found.ratio, times(found.ratio)), " that of ", Name(BASELINE), " (",
        evidence("tpot", found), "): ",
        _measured("tpot", ours, TPOT), " against ", _measured("baseline_tpot", theirs, TPOT),
        _cpu_tier(case, setting), significance(found), ".",
    )  # fmt: skip


def _claim(case: _Case) -> Iterator[Sentence]:
    if case.claim is not None:
        yield claim_sentence(case.outcome, case.claim)


def _cpu_tier(case: _Case, setting: Setting) -> Iterator[Part]:
    """The rows the CPU served: an overall median hides that they are many times slower."""
    value = case.outcome.mean(setting, case.best.id, CPU_TIER_TPOT)
    if value is not None:
        yield ", and "
        yield Number("cpu_tier_tpot_s", value, seconds(value))
        yield " for requests served mostly by the CPU"


def _rivals_of(case: _Case) -> tuple[Comparison, ...]:
    setting = case.scenario.saturation
    rivals = (
        case.outcome.comparison(setting, rival.id, THROUGHPUT)
        for rival in case.outcome.rivals_at(setting)
    )
    return tuple(rival for rival in rivals if rival is not None)


def _rivals(case: _Case) -> Iterator[Sentence]:
    """GPU-only with other weights: the cheaper alternative a reader has to know of."""
    best = case.saturation
    for rival in _rivals_of(case):
        if best is None:
            return
        yield sentence(
            Name(rival.candidate), _rank_of_rival(rival, best), ": ",
            Number("rival_ratio", rival.ratio, times(rival.ratio)), " ", Name(BASELINE), " (",
            evidence("rival", rival), "); output quality is not compared.",
        )  # fmt: skip


def _rank_of_rival(rival: Comparison, best: Comparison) -> str:
    if is_clearly_worse(best, rival):
        return " beats every hybrid here"
    if is_clearly_worse(rival, best):
        return " stays below the best hybrid"
    place = "is ahead of every hybrid" if rival.ratio > best.ratio else "is behind the best hybrid"
    if best.ci_low is None or rival.ci_low is None:
        return f" {place}, but one seed supports no claim"
    return f" {place}, but the intervals do not separate them"


def _kv_tokens(case: _Case) -> Iterator[Sentence]:
    for setting in case.scenario.judged:
        ours = case.outcome.first_run(setting, case.best.id)
        theirs = case.outcome.first_run(setting, BASELINE)
        if ours is None or theirs is None:
            continue
        yield sentence(
            "GPU KV capacity: ",
            Number("gpu_kv_tokens", ours.gpu_kv_tokens, count(ours.gpu_kv_tokens)),
            " tokens for ", Name(case.best.id), ", ",
            Number("baseline_gpu_kv_tokens", theirs.gpu_kv_tokens, count(theirs.gpu_kv_tokens)),
            " for ", Name(BASELINE), ".",
        )  # fmt: skip
        return


def _not_comparable(case: _Case, setting: Setting) -> Sentence:
    where = rate(setting.rate_label, setting.rate_rps)
    return sentence(
        Name(case.best.id), " and ", Name(BASELINE),
        f" are not compared at {where}: they did not both complete the same requests.",
    )  # fmt: skip


def _measured(key: str, value: float | None, metric: str) -> Iterator[Part]:
    if value is None:
        yield "an unknown value"
        return
    suffix = "s" if describe(metric).unit == "s" else metric.removeprefix("output_throughput_")
    yield Number(f"{key}_{suffix}", value, quantity(value, metric))
