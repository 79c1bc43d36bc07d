"""What a comparison says, one verdict per scenario: the only place where sentences are formed."""

from collections.abc import Iterator
from dataclasses import dataclass

from apexbench.reports.case import Case, best_hybrid
from apexbench.reports.cautions import PROVISIONAL, Caution, cautions_of, incomplete
from apexbench.reports.evidence import evidence, significance
from apexbench.reports.judgement import Tone, judge
from apexbench.reports.latency_claim import claim_sentence
from apexbench.reports.losses import Cell, LossReport, is_clearly_worse, where_hybrid_loses
from apexbench.reports.outcome import (
    BASELINE,
    CPU_TIER_TPOT,
    THROUGHPUT,
    TPOT,
    Outcome,
    Scenario,
    index,
)
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.robustness import robustness_sentence
from apexbench.reports.tpot_target import target_sentence
from apexbench.reports.trust import WITHHELD, withheld
from apexbench.reports.wording import (
    count,
    describe,
    quantity,
    rate,
    seconds,
    times,
)
from apexbench.result import Comparison, Result, Setting

__all__ = ["Caution", "Cell", "LossReport", "Tone", "Verdict", "verdicts", "where_hybrid_loses"]


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


def _verdict(outcome: Outcome, scenario: Scenario) -> Verdict:
    doubt = withheld(outcome, scenario)
    obstacle = doubt or _obstacle(outcome, scenario)
    best = best_hybrid(outcome, scenario)
    if obstacle is not None or best is None:
        reason = sentence(obstacle or "No hybrid policy ran, so there is nothing to compare.")
        label = WITHHELD if doubt else "Nothing to compare"
        cautions = tuple(incomplete(outcome))
        return Verdict(scenario.name, "unclear", label, None, (reason,), cautions)
    case = Case(outcome, scenario, best)
    tone, label = judge(case)
    cautions = tuple(cautions_of(outcome, scenario, best.id, _within_target(case)))
    if tone != "unclear" and PROVISIONAL.intersection(caution.flag for caution in cautions):
        label += ", provisionally"
    sentences = (
        _throughput(case),
        *_target(case),
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


def _throughput(case: Case) -> Sentence:
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


def _target(case: Case) -> Iterator[Sentence]:
    if case.target is not None:
        yield target_sentence(case.target)


def _within_target(case: Case) -> str | None:
    """The hybrid that is named for keeping the target."""
    found = case.target
    return None if found is None or found.within is None else found.within.variant


def _robustness(case: Case) -> Iterator[Sentence]:
    if case.draws is not None:
        found = case.saturation
        yield robustness_sentence(case.best.id, case.draws, found.ratio if found else None)


def _rank(case: Case) -> str:
    others = len(case.outcome.hybrids_at(case.scenario.saturation))
    return f", the best of {others} hybrids," if others > 1 else ""


def _latency(case: Case) -> Sentence:
    setting = case.scenario.online
    if setting is None:
        return sentence("No finite rate was run, so latency is not compared.")
    found = case.latency
    if found is None:
        return _not_comparable(case, setting)
    ours = case.outcome.mean(setting, case.best.id, TPOT)
    theirs = case.outcome.mean(setting, BASELINE, TPOT)
    return sentence(
        f"At {rate(setting.rate_label, setting.rate_rps)} the median TPOT of ",
        Name(case.best.id), " is ",
        Number("tpot_ratio", found.ratio, times(found.ratio)), " that of ", Name(BASELINE), " (",
        evidence("tpot", found), "): ",
        _measured("tpot", ours, TPOT), " against ", _measured("baseline_tpot", theirs, TPOT),
        _cpu_tier(case, setting), significance(found), ".",
    )  # fmt: skip


def _claim(case: Case) -> Iterator[Sentence]:
    if case.claim is not None:
        yield claim_sentence(case.outcome, case.claim)


def _cpu_tier(case: Case, setting: Setting) -> Iterator[Part]:
    """The rows the CPU served: an overall median hides that they are many times slower."""
    value = case.outcome.mean(setting, case.best.id, CPU_TIER_TPOT)
    if value is not None:
        yield ", and "
        yield Number("cpu_tier_tpot_s", value, seconds(value))
        yield " for requests served mostly by the CPU"


def _rivals(case: Case) -> Iterator[Sentence]:
    """GPU-only with other weights or settings: what a reader has to know of before a hybrid."""
    best = case.saturation
    for rival in case.rivals:
        if best is None:
            return
        yield sentence(
            Name(rival.candidate), _rank_of_rival(rival, best), ": ",
            Number("rival_ratio", rival.ratio, times(rival.ratio)), " ", Name(BASELINE), " (",
            evidence("rival", rival), ")",
            "; output quality is not compared." if case.is_other_model(rival) else ".",
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


def _kv_tokens(case: Case) -> Iterator[Sentence]:
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


def _not_comparable(case: Case, setting: Setting) -> Sentence:
    where = rate(setting.rate_label, setting.rate_rps)
    ours, theirs = (_served(case, setting, name) for name in (case.best.id, BASELINE))
    short, unequal = "too few requests", "they did not both complete the same requests"
    return sentence(
        Name(case.best.id), " and ", Name(BASELINE),
        f" are not compared at {where}: {short if ours == theirs else unequal}.",
    )  # fmt: skip


def _served(case: Case, setting: Setting, variant: str) -> list[tuple[int, str]]:
    """What each seed completed, by digest."""
    return sorted((r.seed, r.served_set_sha256) for r in case.outcome.runs(setting, variant))


def _measured(key: str, value: float | None, metric: str) -> Iterator[Part]:
    if value is None:
        yield "an unknown value"
        return
    suffix = "s" if describe(metric).unit == "s" else metric.removeprefix("output_throughput_")
    yield Number(f"{key}_{suffix}", value, quantity(value, metric))
