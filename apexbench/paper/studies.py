"""The page's runs, made by apexbench.compare one comparison after the other; judges nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from apexbench import config
from apexbench.compare.comparison import Comparison
from apexbench.compare.pool import Progress
from apexbench.engine.deployment import Deployment
from apexbench.errors import ApexbenchError, UsageError
from apexbench.paper.plan import Plan, RunSpec
from apexbench.result import Result

Phase = Callable[[str], Progress]  # called with the name of a phase


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A run of the plan, every name resolved."""

    spec: RunSpec
    comparison: Comparison

    @property
    def deployment(self) -> Deployment:
        """What gpu-only runs on."""
        return self.comparison.scenarios[0].baseline.deployment

    def run(self, phase: Phase) -> Result:
        """Make it; KeyboardInterrupt when interrupted, ApexbenchError when a run failed."""
        self.comparison.run(phase)
        if self.comparison.is_interrupted:
            raise KeyboardInterrupt
        for sentence in self.comparison.failures:
            raise ApexbenchError(f"run '{self.spec.id}': {sentence}; the page is not written")
        return self.comparison.document(wall_s=0.0)


def prepare(plan: Plan, jobs: str | None) -> tuple[Study, ...]:
    """Resolve every name of every run before any of them; UsageError or InputError otherwise."""
    studies = []
    for spec in plan.all_runs:
        resolved = _config(spec, jobs)
        try:
            studies.append(Study(spec, Comparison.prepare(resolved)))
        except ApexbenchError as error:
            raise type(error)(f"run '{spec.id}' of '{plan.path}': {error}") from error
    return tuple(studies)


def in_turn(studies: Sequence[Study]) -> Iterator[tuple[str, Study]]:
    """Each study with its place among them: "3/27 t4-osc"."""
    for number, study in enumerate(studies, start=1):
        yield f"{number}/{len(studies)} {study.spec.id}", study


def _config(spec: RunSpec, jobs: str | None) -> config.CompareConfig:
    """The configuration, as if typed: errors then come in the words of `compare`."""
    options: dict[str, object] = {
        "gpu": spec.gpu,
        "host": spec.host,
        "model": spec.model,
        "workload": spec.workload,
        "cpu_kernel": spec.cpu_kernel,
        "policies": _listed(spec.policies),
        "rate": _listed(spec.rates),
        "seeds": spec.seeds,
        "seed": spec.seed,
        "requests": spec.requests,
        "draws": spec.draws,
        "gpu_kv_tokens": spec.gpu_kv_tokens,
        "jobs": jobs,
    }
    try:
        return config.resolve(options, {}, None)
    except UsageError as error:
        raise UsageError(f"run '{spec.id}': {error}") from error


def _listed(names: Iterable[str]) -> list[str]:
    """gpu-only comes with every comparison by itself."""
    return list(dict.fromkeys(names))
