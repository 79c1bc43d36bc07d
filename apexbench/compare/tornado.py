"""The best hybrid's gain when one device constant is one sigma lower or higher; all else held."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from apexbench.compare import caveats
from apexbench.compare.cells import Cell
from apexbench.compare.matrix import BACKLOG
from apexbench.compare.perturbed import backlog_on, throughput_ratio
from apexbench.compare.pool import Batch
from apexbench.compare.scenarios import Placement, Scenario
from apexbench.compare.variants import BASELINE
from apexbench.engine.models import WEIGHT_DTYPES
from apexbench.engine.profile_files import Constant
from apexbench.engine.uncertainty import displaced, uncertain_constants
from apexbench.errors import InputError
from apexbench.result import Run, Sensitivity

_SIDES = (-1.0, 1.0)  # standard deviations


@dataclass(frozen=True, slots=True)
class _Bar:
    """A constant with the index of its first cell: low, then high, each for both variants."""

    key: str
    device: str
    constant: Constant
    first_cell: int


@dataclass(slots=True, eq=False)
class TornadoStudy:
    """The tornado of one scenario: what to run, and what the runs that ended say.

    The first two cells are the nominal ones. `unfit` are constants of which one side leaves no
    room for the model, with the reason.
    """

    scenario: str
    candidate: str
    bars: tuple[_Bar, ...]
    unfit: Mapping[str, str]
    batch: Batch

    @classmethod
    def plan(cls, scenario: Scenario, candidate: str, seed: int) -> "TornadoStudy":
        """Both variants at the nominal constants, then at each end of each constant."""
        pair = (BASELINE, candidate)
        cells = list(backlog_on(scenario, {}, pair, seed))
        bars, unfit = [], {}
        for key, constant in _constants(scenario, candidate).items():
            try:
                ends = _ends(scenario, pair, key, constant, seed)
            except InputError as error:
                unfit[key] = str(error)
                continue
            device = getattr(scenario.baseline.deployment, key.partition(".")[0]).name
            bars.append(_Bar(key, device, constant, len(cells)))
            cells += ends
        return cls(scenario.id, candidate, tuple(bars), unfit, Batch(cells))

    def findings(self) -> tuple[Sensitivity, ...]:
        """The bars that are complete, in the order of the profiles."""
        nominal = self._ratio(0)
        if nominal is None:
            return ()
        return tuple(self._complete(nominal))

    def notes(self) -> Iterator[str]:
        """What a reader must know of this tornado."""
        for key, reason in self.unfit.items():
            yield caveats.unfit_bar(self.scenario, key, reason)
        yield from self._unended()
        ended = [result.run for result in self.batch.ordered()]
        unsteady = sum(not run.window.is_steady for run in ended)
        if unsteady:
            yield caveats.unsteady_bars(self.scenario, unsteady, len(ended))

    def failures(self) -> tuple[str, ...]:
        """What failed or was lost, in sentences; an interrupt is neither."""
        lost, total = self.batch.num_lost, len(self.batch.cells)
        found = tuple(self._unended()) if lost or self.batch.failures else ()
        return (*found, caveats.lost(lost, total)) if lost else found

    def _unended(self) -> Iterator[str]:
        total, missing = len(self.bars), len(self.bars) - len(self.findings())
        if missing:
            failures = self.batch.failures.values()
            yield caveats.unended_bars(self.scenario, missing, total, failures)

    def _complete(self, nominal: float) -> Iterator[Sensitivity]:
        for bar in self.bars:
            low, high = self._ratio(bar.first_cell), self._ratio(bar.first_cell + 2)
            if low is None or high is None:
                continue
            yield Sensitivity(
                scenario=self.scenario, baseline=BASELINE, candidate=self.candidate,
                device=bar.device, constant=bar.key.partition(".")[2], kind=bar.constant.kind,
                sigma=bar.constant.sigma, nominal=nominal, low=low, high=high,
            )  # fmt: skip

    def _ratio(self, first_cell: int) -> float | None:
        pair = [self.batch.results.get(first_cell + i) for i in range(2)]
        base, candidate = (None if result is None else result.run for result in pair)
        return None if base is None or candidate is None else throughput_ratio(candidate, base)


def best_hybrid(scenario: Scenario, runs: Sequence[Run]) -> str | None:
    """The hybrid with the highest mean output throughput at saturation, as the report names it."""
    setting = f"{scenario.id}/{BACKLOG.label}"
    rates: dict[str, list[float]] = {}
    for run in runs:
        if run.setting == setting and run.policy != BASELINE:
            rates.setdefault(run.variant, []).append(run.metrics.output_throughput_tok_s)
    means = {name: sum(values) / len(values) for name, values in rates.items()}
    able = [name for name, mean in means.items() if mean > 0]
    return max(able, key=lambda name: means[name], default=None)


def _constants(scenario: Scenario, candidate: str) -> dict[str, Constant]:
    """The uncertain ones, without the efficiencies of weights that neither variant has."""
    pair = [p for p in scenario.placements if p.variant.id in (BASELINE, candidate)]
    absent = _absent_dtypes(pair)
    return {
        key: constant
        for key, constant in uncertain_constants(scenario.baseline.deployment).items()
        if not key.partition(".")[2].startswith(absent)
    }


def _absent_dtypes(placements: Sequence[Placement]) -> tuple[str, ...]:
    present = {placement.deployment.weight_dtype for placement in placements}
    return tuple(f"{dtype}_" for dtype in WEIGHT_DTYPES if dtype not in present)


def _ends(
    scenario: Scenario, pair: Sequence[str], key: str, constant: Constant, seed: int
) -> list[Cell]:
    moved = ({key: displaced(constant, side)} for side in _SIDES)
    return [cell for values in moved for cell in backlog_on(scenario, values, pair, seed)]
