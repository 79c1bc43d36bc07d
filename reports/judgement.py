"""The label of a verdict: win, loss or unclear, and in a few words why; forms no sentences."""

from typing import Literal

from apexbench.reports.case import Case
from apexbench.reports.losses import is_clearly_worse
from apexbench.reports.robustness import NOT_ROBUST, is_robust
from apexbench.reports.tpot_target import gains_within, reservation

Tone = Literal["win", "loss", "unclear"]


def judge(case: Case) -> tuple[Tone, str]:
    """By throughput at saturation, else by median TPOT online; a win only without reservation."""
    throughput, latency = case.saturation, case.latency
    decisive = throughput or latency
    if decisive is None:
        return "unclear", "Not comparable"
    if decisive.ci_low is None:
        return "unclear", "One seed: not established"
    if decisive.verdict == "no_significant_difference":
        return "unclear", _undecided(case)
    if throughput and case.draws and not is_robust(case.draws, throughput.ratio):
        return "unclear", f"{NOT_ROBUST[0].upper()}{NOT_ROBUST[1:]}"
    if decisive.verdict == "worse":
        return "loss", "Hybrid loses"
    return _judge_win(case)


def _undecided(case: Case) -> str:
    """The fastest hybrid may be noisy where one that keeps the TPOT target is not."""
    if case.saturation and case.target and gains_within(case.target):
        return "Mixed: gain established only within the TPOT target"
    return "No significant difference"


def _judge_win(case: Case) -> tuple[Tone, str]:
    """A hybrid that beats gpu-only may still not be the best answer."""
    reason = _faster_rival(case) or _missed_target(case) or _lost_latency(case)
    return ("unclear", f"Mixed: {reason}") if reason else ("win", "Hybrid wins")


def _faster_rival(case: Case) -> str | None:
    throughput = case.saturation
    if throughput is None:
        return None
    ahead = [rival for rival in case.rivals if rival.ratio > throughput.ratio]
    if not ahead:
        return None
    clearly = [rival for rival in ahead if is_clearly_worse(throughput, rival)]
    # The same model with other settings is the stronger objection: nothing is given up for it.
    fairest = min(clearly or ahead, key=case.is_other_model)
    what = "smaller weights" if case.is_other_model(fairest) else "other settings"
    return f"GPU-only with {what} {'is' if clearly else 'may be'} faster"


def _missed_target(case: Case) -> str | None:
    return reservation(case.target) if case.saturation and case.target else None


def _lost_latency(case: Case) -> str | None:
    if case.claim is None or case.claim.status != "lost":
        return None
    gain = "more throughput" if case.saturation is not None else "lower median TPOT"
    return f"{gain}, higher latency"
