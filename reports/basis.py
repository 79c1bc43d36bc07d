"""What a result rests on: simulated or measured, by which models; says nothing of who wins."""

from dataclasses import dataclass

from apexbench.reports.trust import alarm
from apexbench.result import Result

_BADGES = {
    "sim": "SIMULATED — no GPU used",
    "emulated": "EMULATED — no GPU used",
    "cpu": "MEASURED ON THE CPU — no GPU used",
    "cuda": "MEASURED ON A GPU",
}
_MEANINGS = {
    "sim": (
        "The engine's own scheduler ran in virtual time; the duration of every operation comes "
        "from a cost model."
    ),
    "emulated": (
        "The engine's own scheduler ran in real time on threads; GPU operations took as long as a "
        "cost model predicts, attention on the CPU was really computed, on KV in this machine's "
        "memory. This validates the overlap of the lanes and the CPU lane, not the model of the "
        "GPU."
    ),
    "cpu": (
        'The engine ran the real model on this CPU: its "GPU lane" is torch on this CPU, so these '
        "times say nothing about a GPU and ratios between policies do not transfer to one."
    ),
    "cuda": "The engine ran the real model on the GPU and CPU named below.",
}
_BELIEFS = {  # what policies decide with; empty where draws and variants have a say
    "sim": "",
    "emulated": (
        "Policies decide with these profiles; what CPU attention really takes they are told only "
        "step by step. Intervals cover repeats, not errors of the GPU's profile."
    ),
    "cpu": (
        "Policies decide with a calibration made before the first run; its constants are listed. "
        "Intervals cover repeats on this machine."
    ),
}
_MODELLED = frozenset({"sim", "emulated"})


@dataclass(frozen=True, slots=True)
class Basis:
    """The badge shown before anything else, and what it means.

    `alarm` says that the result must not be published, and why; empty where it may be.
    """

    badge: str
    is_modelled: bool
    sentences: tuple[str, ...]
    alarm: str = ""

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(self.sentences)


def basis(result: Result) -> Basis:
    """Badge and explanation from the backends of the runs."""
    backends = sorted({run.backend for run in result.runs})
    if not backends:
        return Basis("NOTHING RAN", False, ("No run has finished, so there are no numbers.",))
    is_modelled = bool(_MODELLED.intersection(backends))
    badge = _BADGES[backends[0]]
    if len(backends) > 1:
        badge = f"MIXED BACKENDS: {', '.join(backends)}"
    sentences = [_MEANINGS[backend] for backend in backends]
    if is_modelled:
        sentences.append(_profiles(result))
    sentences += [_belief(backend, result) for backend in backends if backend in _BELIEFS]
    return Basis(badge, is_modelled, tuple(sentences), alarm(result))


def _profiles(result: Result) -> str:
    gpus = dict.fromkeys(setting.gpu for setting in result.settings)
    hosts = dict.fromkeys(setting.host for setting in result.settings)
    return (
        f"Device profiles: {', '.join([*gpus, *hosts])}; every constant is listed with its source."
    )


def _belief(backend: str, result: Result) -> str:
    return _BELIEFS[backend] or _truth(result)


def _truth(result: Result) -> str:
    draws = max((run.draws.n for run in result.runs if run.draws), default=0)
    mistaken = [variant.id for variant in result.variants if "belief" in variant.overrides]
    others = f", except that {', '.join(mistaken)} believe another host's" if mistaken else ""
    same = f"Policies decide with the same constants they are charged with (truth = belief){others}"
    if draws:
        return (
            f"{same}; saturation is repeated with {draws} draws of the true constants, of which"
            " policies know nothing."
        )
    hidden = "" if mistaken else ", so the cost of mispredictions is not shown"
    return f"{same}{hidden}; intervals cover traffic seeds, not model error."
