"""What a result rests on: simulated or measured, by which models; says nothing of who wins."""

from dataclasses import dataclass

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
        "The engine's own scheduler ran in real time; GPU operations took as long as a cost model "
        "predicts, attention on the CPU was really computed."
    ),
    "cpu": "The engine ran the real model on this CPU; these times say nothing about a GPU.",
    "cuda": "The engine ran the real model on the GPU and CPU named below.",
}
_MODELLED = frozenset({"sim", "emulated"})


@dataclass(frozen=True, slots=True)
class Basis:
    """The badge shown before anything else, and what it means."""

    badge: str
    is_modelled: bool
    sentences: tuple[str, ...]

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
        sentences += [_profiles(result), _truth(result)]
    return Basis(badge, is_modelled, tuple(sentences))


def _profiles(result: Result) -> str:
    gpus = dict.fromkeys(setting.gpu for setting in result.settings)
    hosts = dict.fromkeys(setting.host for setting in result.settings)
    return (
        f"Device profiles: {', '.join([*gpus, *hosts])}; every constant is listed with its source."
    )


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
