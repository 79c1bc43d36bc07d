"""Saturation repeated under draws of the true device constants, paired across variants."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from apexbench.compare import caveats
from apexbench.compare.cells import Cell
from apexbench.compare.matrix import BACKLOG
from apexbench.compare.perturbed import backlog_on, throughput_ratio
from apexbench.compare.pool import Batch
from apexbench.compare.scenarios import Scenario
from apexbench.compare.variants import BASELINE
from apexbench.engine.uncertainty import drawn_constants
from apexbench.errors import InputError
from apexbench.result import Draws, Run

_BAND = (0.1, 0.5, 0.9)  # ends of the 80 % band, and the median
_HASH_BYTES = 8


@dataclass(slots=True, eq=False)
class DrawStudy:
    """The draws of one scenario: what to run, and what the runs that ended say.

    Cells are in the order of variants, then of draws, so that an interrupt costs whole variants
    and not all of them. `unfit_reason` says why fewer than `num_asked` draws can run.
    """

    scenario: str
    variants: tuple[str, ...]
    seed: int
    num_asked: int
    num_draws: int
    unfit_reason: str | None
    batch: Batch

    @classmethod
    def plan(cls, scenario: Scenario, num_draws: int, seed: int) -> "DrawStudy":
        """Draw i has the same constants and the same requests for every variant.

        Draws in which some variant cannot run are left out for all.
        """
        variants = tuple(placement.variant.id for placement in scenario.placements)
        draws: list[tuple[Cell, ...]] = []
        reason = None
        for draw in range(num_draws):
            values = draw_values(scenario, seed, draw)
            try:
                draws.append(backlog_on(scenario, values, variants, seed))
            except InputError as error:
                reason = reason or str(error)
        cells = [cell for of_variant in zip(*draws, strict=True) for cell in of_variant]
        return cls(scenario.id, variants, seed, num_draws, len(draws), reason, Batch(cells))

    def findings(self) -> dict[str, Draws]:
        """By variant; those that lack a draw are not there, nor is any without the baseline."""
        rows = self._complete()
        base = rows.get(BASELINE)
        if base is None:
            return {}
        found = {name: _summary(runs, base) for name, runs in rows.items()}
        return {name: draws for name, draws in found.items() if draws is not None}

    def attached_to(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        """The runs; those at saturation with the first seed carry the draws of their variant."""
        found, setting = self.findings(), f"{self.scenario}/{BACKLOG.label}"
        return tuple(
            run.model_copy(update={"draws": found[run.variant]})
            if (run.setting, run.seed) == (setting, self.seed) and run.variant in found
            else run
            for run in runs
        )

    def notes(self) -> Iterator[str]:
        """What a reader must know of these draws."""
        if self.unfit_reason is not None:
            unfit = self.num_asked - self.num_draws
            yield caveats.unfit_draws(self.scenario, unfit, self.num_asked, self.unfit_reason)
        if not self.num_draws:
            return
        yield from self._left_out()
        unsteady = {
            name: count
            for name, runs in self._complete().items()
            if (count := sum(not run.window.is_steady for run in runs))
        }
        if unsteady:
            yield caveats.unsteady_draws(self.scenario, unsteady, self.num_draws)

    def failures(self) -> tuple[str, ...]:
        """What failed or was lost, in sentences; an interrupt is neither."""
        lost, total = self.batch.num_lost, len(self.batch.cells)
        found = tuple(self._unended()) if lost or self.batch.failures else ()
        return (*found, caveats.lost(lost, total)) if lost else found

    def _left_out(self) -> Iterator[str]:
        """Variants without draws: their runs did not end, or not with equal requests."""
        yield from self._unended()
        complete, found = self._complete(), self.findings()
        unpaired = [name for name in complete if name not in found]
        if unpaired and BASELINE in complete:
            yield caveats.unpaired_draws(self.scenario, unpaired)

    def _unended(self) -> Iterator[str]:
        complete = self._complete()
        names = [name for name in self.variants if name not in complete or BASELINE not in complete]
        if names and self.num_draws:
            yield caveats.unended_draws(self.scenario, names, self.batch.failures.values())

    def _complete(self) -> dict[str, list[Run]]:
        """The runs by draw of every variant of which all have ended."""
        rows = {}
        for position, name in enumerate(self.variants):
            first = position * self.num_draws
            ended = [self.batch.results.get(first + draw) for draw in range(self.num_draws)]
            runs = [result.run for result in ended if result is not None]
            if len(runs) == self.num_draws > 0:
                rows[name] = runs
        return rows


def draw_values(scenario: Scenario, seed: int, draw: int) -> dict[str, float]:
    """The true constants of a draw, the same for whoever asks."""
    rng = _generator(scenario.id, seed, draw)
    return drawn_constants(scenario.baseline.deployment, rng)


def _generator(scenario: str, seed: int, draw: int) -> np.random.Generator:
    """Of its own per scenario and draw: neither order nor number of others matters."""
    digest = hashlib.sha256(scenario.encode()).digest()[:_HASH_BYTES]
    entropy = (seed, int.from_bytes(digest, "big"), draw)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def _summary(runs: Sequence[Run], base: Sequence[Run]) -> Draws | None:
    """None where some draw has no ratio: the other draws would be a selection."""
    rates = [run.metrics.output_throughput_tok_s for run in runs]
    low, median, high = _quantiles(rates)
    summary = Draws(n=len(rates), band80=(low, high), median=median, throughput_tok_s=tuple(rates))
    if runs is base:
        return summary
    ratios = [throughput_ratio(run, other) for run, other in zip(runs, base, strict=True)]
    known = tuple(ratio for ratio in ratios if ratio is not None)
    if len(known) < len(ratios):
        return None
    low, median, high = _quantiles(known)
    more = {
        "ratio_band80": (low, high),
        "ratio_median": median,
        "wins_fraction": sum(ratio > 1 for ratio in known) / len(known),
        "ratios": known,
    }
    return summary.model_copy(update=more)


def _quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = np.quantile(values, _BAND).tolist()
    return low, median, high
