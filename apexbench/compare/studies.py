"""What is asked beside the comparison itself: draws and tornados. Runs them, judges nothing."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from apexbench.compare import caveats
from apexbench.compare.draws import DrawStudy
from apexbench.compare.matrix import BACKLOG
from apexbench.compare.pool import Progress, Runner
from apexbench.compare.scenarios import Scenario
from apexbench.compare.tornado import TornadoStudy, best_hybrid
from apexbench.compare.variants import BASELINE, VariantSpec
from apexbench.config import CompareConfig
from apexbench.errors import UsageError
from apexbench.result import Run, Sensitivity


def check_studies(config: CompareConfig, variants: Iterable[VariantSpec]) -> None:
    """UsageError where draws or a tornado are asked for and cannot be made."""
    asked = [flag for flag, is_asked in _flags(config) if is_asked]
    if asked and BACKLOG.label not in config.rate:
        verb = "need" if len(asked) > 1 else "needs"
        raise UsageError(
            f"{' and '.join(asked)} {verb} the saturation run: add {BACKLOG.label} to --rate"
            f" (it is {','.join(config.rate)})"
        )
    if config.tornado and all(variant.entry.name == BASELINE for variant in variants):
        raise UsageError(
            "--tornado needs a hybrid to compare with gpu-only: name one with --policies"
        )


def _flags(config: CompareConfig) -> Iterator[tuple[str, bool]]:
    yield "--draws", config.draws > 0
    yield "--tornado", config.tornado


@dataclass(slots=True, eq=False)
class Studies:
    """Draws and tornados of all scenarios, as far as they have come."""

    draws: list[DrawStudy] = field(default_factory=list)
    tornados: list[TornadoStudy] = field(default_factory=list)

    def run(
        self,
        config: CompareConfig,
        scenarios: Sequence[Scenario],
        runs: Sequence[Run],
        runner: Runner,
        phase: Callable[[str], Progress],
    ) -> None:
        """All that `config` asks for; `runs` tell which hybrid is the best."""
        if config.draws:
            self.draws += [DrawStudy.plan(s, config.draws, config.seed) for s in scenarios]
        if config.tornado:
            named = [(scenario, best_hybrid(scenario, runs)) for scenario in scenarios]
            self.tornados += [TornadoStudy.plan(s, n, config.seed) for s, n in named if n]
        for name, studies in (("draws", self.draws), ("tornado", self.tornados)):
            for study in studies:
                runner.on_progress = phase(f"{name} {study.scenario}")
                runner.run(study.batch)

    def attached_to(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """The runs with their draws."""
        for study in self.draws:
            runs = study.attached_to(runs)
        return runs

    @property
    def sensitivities(self) -> tuple[Sensitivity, ...]:
        """The bars of every tornado."""
        return tuple(bar for study in self.tornados for bar in study.findings())

    @property
    def _all(self) -> tuple[DrawStudy | TornadoStudy, ...]:
        return (*self.draws, *self.tornados)

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence per study in which runs failed."""
        return tuple(s for study in self._all for s in study.failures())

    @property
    def simulated_s(self) -> float:
        """Virtual seconds of all runs that ended."""
        results = (result for study in self._all for result in study.batch.ordered())
        return sum(result.simulated_s for result in results)

    def notes(self) -> Iterator[str]:
        """What a reader must know of them."""
        for study in self._all:
            yield from study.notes()
        num = min((study.num_draws for study in self.draws), default=None)
        if num and (rough := caveats.few_draws(num)):
            yield rough
