"""The whole comparison: backlog first, because the other rates are multiples of what it finds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

import apexbench
from apexbench.compare import caveats
from apexbench.compare.cells import CellResult
from apexbench.compare.command_line import command, config_document
from apexbench.compare.environment import environment
from apexbench.compare.machines.checks import check_backend
from apexbench.compare.matrix import BACKLOG, SettingCells, setting_cells
from apexbench.compare.pool import Batch, CellRunner, Progress, Runner, default_jobs
from apexbench.compare.realtime import opening
from apexbench.compare.realtime.bench import Bench
from apexbench.compare.realtime.runner import RealTimeRunner
from apexbench.compare.scenarios import Scenario, scenarios
from apexbench.compare.studies import Studies, check_studies
from apexbench.compare.sweeps import Sweeps
from apexbench.compare.variants import BASELINE, VariantSpec, parse_variants
from apexbench.config import CompareConfig
from apexbench.metrics.comparisons import comparisons
from apexbench.result import Result, Setting

Phase = Callable[[str], Progress]  # called with the phase's name


@dataclass(slots=True, eq=False)
class Comparison:
    """A comparison in progress; `document()` may be called at any time, also after Ctrl-C."""

    config: CompareConfig
    variants: tuple[VariantSpec, ...]
    scenarios: tuple[Scenario, ...]
    settings: list[Setting] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    studies: Studies = field(default_factory=Studies)
    sweeps: Sweeps = field(default_factory=Sweeps)
    bench: Bench | None = None  # of runs in real time
    notes: list[str] = field(default_factory=list)
    is_interrupted: bool = False

    @classmethod
    def prepare(cls, config: CompareConfig) -> "Comparison":
        """Resolve every name; UsageError or InputError before anything has run."""
        variants = parse_variants(config.policies)
        check_backend(config, variants)
        check_studies(config, variants)
        comparison = cls(config, variants, scenarios(config, variants))
        comparison.bench = opening.bench_of(config, comparison.scenarios)
        comparison.sweeps = Sweeps.prepare(config, comparison.scenarios, variants, comparison.seeds)
        return comparison

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all runs."""
        return tuple(range(self.config.seed, self.config.seed + self.config.seeds))

    @property
    def results(self) -> tuple[CellResult, ...]:
        """What has ended so far, in the order in which it was asked for."""
        return tuple(result for batch in self.batches for result in batch.ordered())

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence per run that could not be made, and one for those that were lost."""
        of_runs = (sentence for batch in self.batches for sentence in _failures(batch))
        return (*of_runs, *self.studies.failures, *_failures(self.sweeps.batch))

    @property
    def is_trustworthy(self) -> bool:
        """Whether nothing disturbed the runs that ended; always so in virtual time."""
        return opening.trusted([result.run for result in self.results])

    def run(self, phase: Phase) -> None:
        """Run everything; stops early, with what is done, when interrupted."""
        try:
            with self._runner(phase) as runner:
                self._run_backlog(runner)
                if not any(batch.num_lost for batch in self.batches):
                    runner.on_progress = phase("rates")
                    self._run_rates(runner)
                    runs = [result.run for result in self.results]
                    self.studies.run(self.config, self.scenarios, runs, runner, phase)
                    self._run_sweeps(runner, phase)
        except KeyboardInterrupt:
            self.is_interrupted = True

    def document(self, *, wall_s: float) -> Result:
        """The result document of what has run so far."""
        results = self.results
        runs = tuple(result.run for result in results)
        used = {run.setting for run in runs}
        settings = tuple(setting for setting in self.settings if setting.id in used)
        if self.bench is not None:
            settings = opening.calibrated(self.bench, settings)
        pairs, gaps = comparisons(opening.comparable(runs, settings), settings, BASELINE)
        failures = self.failures
        warnings = (
            *self.notes,
            *failures,
            *self.studies.notes(),
            *self.sweeps.notes(),
            *caveats.caveats(settings, runs, gaps, BASELINE),
        )
        return Result(
            tool_version=apexbench.__version__,
            kind="compare",
            is_partial=self.is_interrupted or bool(failures),
            is_interrupted=self.is_interrupted,
            config=config_document(self.config),
            command=command(self.config),
            environment=environment(
                wall_s=wall_s,
                simulated_s=sum(result.simulated_s for result in results)
                + self.studies.simulated_s
                + self.sweeps.simulated_s,
                **self._real_time_facts(),
            ),
            warnings=tuple(dict.fromkeys(warnings)),
            settings=settings,
            variants=tuple(variant.document() for variant in self.variants),
            runs=self.studies.attached_to(runs),
            comparisons=pairs,
            sweeps=self.sweeps.findings(),
            sensitivities=self.studies.sensitivities,
        )

    def request_table(self) -> pa.Table:
        """One row per request and run."""
        tables = []
        for result in self.results:
            count = len(result.requests["id"])
            labels = {
                "setting": [result.run.setting] * count,
                "variant": [result.run.variant] * count,
                "seed": [result.run.seed] * count,
            }
            tables.append(pa.table(labels | dict(result.requests)))
        return pa.concat_tables(tables)

    def _runner(self, phase: Phase) -> Runner:
        if self.bench is not None and self.config.backend in ("emulated", "cpu"):
            return RealTimeRunner(self.bench, self.config.backend, phase)
        return CellRunner(self.config.jobs or default_jobs(), phase("saturation"))

    def _real_time_facts(self) -> dict[str, Any]:
        """What the environment says of runs in real time."""
        if self.bench is None:
            return {}
        threads = opening.threads(self.bench, self.scenarios)
        return {"cpu_kernels": self.bench.cpu_kernels, "threads": threads}

    def _run_backlog(self, runner: Runner) -> None:
        """gpu-only alone where only its saturation is asked for; all variants for "inf"."""
        rates = self.config.rates
        needs_all = any(rate.label == BACKLOG.label for rate in rates)
        if not needs_all and not any(rate.multiple is not None for rate in rates):
            return
        parts = []
        for scenario in self.scenarios:
            placements = scenario.placements if needs_all else (scenario.baseline,)
            parts.append(setting_cells(scenario, BACKLOG, None, self.seeds, placements, None))
            self._note_limits(scenario, parts[-1])
        self._run_parts(runner, parts)

    def _run_rates(self, runner: Runner) -> None:
        parts = []
        for scenario in self.scenarios:
            saturation = self._saturation(scenario)
            self._note_no_saturation(scenario, saturation)
            for rate in self.config.rates:
                if rate.label == BACKLOG.label or (rate.multiple and not saturation):
                    continue
                part = setting_cells(
                    *(scenario, rate, saturation, self.seeds),
                    *(scenario.placements, self.config.duration),
                )
                if not self.batches:
                    self._note_limits(scenario, part)
                parts.append(part)
        self._run_parts(runner, parts)

    def _run_sweeps(self, runner: Runner, phase: Phase) -> None:
        if self.sweeps.batch.cells:
            runner.on_progress = phase("sweeps")
            runner.run(self.sweeps.batch)

    def _run_parts(self, runner: Runner, parts: Sequence[SettingCells]) -> None:
        """The batch is kept before it runs: an interrupt at any moment loses nothing that ended."""
        batch = Batch([cell for part in parts for cell in part.cells])
        self.settings += [part.document for part in parts]
        self.batches.append(batch)
        runner.run(batch)

    def _saturation(self, scenario: Scenario) -> float | None:
        """Mean request throughput of gpu-only over the seeds; None where it is not known."""
        setting = f"{scenario.id}/{BACKLOG.label}"
        rates = [
            result.run.metrics.request_throughput_rps
            for result in self.results
            if result.run.setting == setting and result.run.variant == BASELINE
        ]
        mean = sum(rates) / len(rates) if rates else 0.0
        return mean if mean > 0 else None

    def _note_no_saturation(self, scenario: Scenario, saturation: float | None) -> None:
        multiples = [rate.label for rate in self.config.rates if rate.multiple is not None]
        if multiples and not saturation:
            self.notes.append(caveats.no_saturation(scenario.id, multiples))

    def _note_limits(self, scenario: Scenario, part: SettingCells) -> None:
        if self.bench is not None:
            self.notes += opening.notes(scenario, part, self.config.host)
        if not part.num_left_out:
            return
        limit = scenario.served_tokens
        short = [p.variant.id for p in scenario.placements if p.max_request_tokens == limit]
        served = sum(len(cell.workload.requests) for cell in part.cells[: len(self.seeds)])
        total = part.num_left_out + served
        self.notes.append(caveats.left_out(scenario.id, part.num_left_out, total, short, limit))


def _failures(batch: Batch) -> list[str]:
    sentences = []
    for index, sentence in sorted(batch.failures.items()):
        cell = batch.cells[index]
        variant = cell.placement.variant.id
        sentences.append(caveats.failed(cell.setting, variant, cell.seed, sentence))
    if batch.num_lost:
        sentences.append(caveats.lost(batch.num_lost, len(batch.cells)))
    return sentences
