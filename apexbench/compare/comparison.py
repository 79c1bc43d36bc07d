"""The whole comparison: backlog first, because the other rates are multiples of what it finds."""

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

import apexbench
from apexbench.compare.cells import Cell, CellResult
from apexbench.compare.environment import environment
from apexbench.compare.matrix import BACKLOG, SettingCells, setting_cells
from apexbench.compare.pool import CellRunner, Progress, default_jobs
from apexbench.compare.scenarios import Scenario, scenarios
from apexbench.compare.variants import BASELINE, VariantSpec, parse_variants
from apexbench.config import CompareConfig, Rate
from apexbench.metrics import comparisons
from apexbench.result import Result, Run, Setting

# What only says where things go or how fast: the numbers do not depend on it.
_OUTSIDE_THE_RESULT = ("out", "json", "html", "quiet", "jobs")

Phase = Callable[[str], Progress]  # called with the phase's name


@dataclass(slots=True, eq=False)
class Comparison:
    """A comparison in progress; `document()` may be called at any time, also after Ctrl-C."""

    config: CompareConfig
    variants: tuple[VariantSpec, ...]
    scenarios: tuple[Scenario, ...]
    settings: list[Setting] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    results: list[CellResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    is_interrupted: bool = False

    @classmethod
    def prepare(cls, config: CompareConfig) -> "Comparison":
        """Resolve every name; UsageError or InputError before anything has run."""
        variants = parse_variants(config.policies)
        return cls(config, variants, scenarios(config, variants))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all runs."""
        return tuple(range(self.config.seed, self.config.seed + self.config.seeds))

    def run(self, phase: Phase) -> None:
        """Run everything; stops early, with what is done, when interrupted."""
        with CellRunner(self.config.jobs or default_jobs(), phase("saturation")) as runner:
            saturation = self._run_backlog(runner)
            if not self.is_interrupted:
                runner.on_progress = phase("rates")
                self._run_rates(runner, saturation)

    def document(self, *, wall_s: float) -> Result:
        """The result document of what has run so far."""
        runs = tuple(result.run for result in self.results)
        pairs, pairing_warnings = comparisons(runs, BASELINE)
        used = {run.setting for run in runs}
        return Result(
            tool_version=apexbench.__version__,
            kind="compare",
            is_partial=self.is_interrupted or bool(self.failures),
            config=config_document(self.config),
            command=command(self.config),
            environment=environment(
                wall_s=wall_s, simulated_s=sum(result.simulated_s for result in self.results)
            ),
            warnings=tuple(
                dict.fromkeys(
                    [
                        *self.warnings,
                        *self.failures,
                        *_steadiness(runs),
                        *pairing_warnings,
                        *(text for result in self.results for text in result.warnings),
                    ]
                )
            ),
            settings=tuple(setting for setting in self.settings if setting.id in used),
            variants=tuple(variant.document() for variant in self.variants),
            runs=runs,
            comparisons=pairs,
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

    def _run_backlog(self, runner: CellRunner) -> dict[str, float]:
        """Saturation of gpu-only in requests/s, by scenario; all variants when "inf" was asked."""
        rates = self.config.rates
        if not any(rate.label == BACKLOG.label or rate.multiple is not None for rate in rates):
            return {}
        needs_all = any(rate.label == BACKLOG.label for rate in rates)
        parts = []
        for scenario in self.scenarios:
            placements = scenario.placements if needs_all else (scenario.baseline,)
            parts.append(setting_cells(scenario, BACKLOG, None, self.seeds, placements, None))
            self._note_left_out(scenario, parts[-1])
        self._run_parts(runner, parts)
        return {s.id: rate for s in self.scenarios if (rate := self._saturation(s)) is not None}

    def _run_rates(self, runner: CellRunner, saturation: dict[str, float]) -> None:
        parts = []
        for scenario in self.scenarios:
            for rate in self.config.rates:
                if rate.label == BACKLOG.label or not self._is_known(rate, scenario, saturation):
                    continue
                part = setting_cells(
                    *(scenario, rate, saturation.get(scenario.id), self.seeds),
                    *(scenario.placements, self.config.duration),
                )
                if not saturation:
                    self._note_left_out(scenario, part)
                parts.append(part)
        self._run_parts(runner, parts)

    def _is_known(self, rate: Rate, scenario: Scenario, saturation: dict[str, float]) -> bool:
        if rate.multiple is None or saturation.get(scenario.id):
            return True
        self.warnings.append(
            f"{scenario.id}: no rate {rate.label}, because gpu-only completed nothing at saturation"
        )
        return False

    def _run_parts(self, runner: CellRunner, parts: Sequence[SettingCells]) -> None:
        cells = [cell for part in parts for cell in part.cells]
        self.settings += [part.document for part in parts]
        batch = runner.run(cells)
        self.is_interrupted |= batch.is_interrupted
        self.results += batch.ordered()
        self.failures += [
            f"{cells[i].setting}: {cells[i].placement.variant.id} with seed {cells[i].seed}"
            f" failed: {sentence}"
            for i, sentence in sorted(batch.failures.items())
        ]

    def _saturation(self, scenario: Scenario) -> float | None:
        """Mean request throughput of gpu-only over the seeds."""
        setting = f"{scenario.id}/{BACKLOG.label}"
        rates = [
            result.run.metrics.request_throughput_rps
            for result in self.results
            if result.run.setting == setting and result.run.variant == BASELINE
        ]
        mean = sum(rates) / len(rates) if rates else 0.0
        return mean if mean > 0 else None

    def _note_left_out(self, scenario: Scenario, part: SettingCells) -> None:
        if not part.num_left_out:
            return
        limit = scenario.served_tokens
        short = [p.variant.id for p in scenario.placements if p.max_request_tokens == limit]
        total = part.num_left_out + sum(
            len(cell.workload.requests) for cell in part.cells[: len(self.seeds)]
        )
        self.warnings.append(
            f"{scenario.id}: {part.num_left_out} of {total} requests are left out for every"
            f" policy, because {', '.join(short)} cannot hold more than {limit} KV tokens"
        )


def _steadiness(runs: Iterable[Run]) -> list[str]:
    """One sentence per setting and variant that never became steady."""
    reasons: dict[tuple[str, str], dict[str, list[int]]] = {}
    for run in runs:
        if not run.window.is_steady:
            by_reason = reasons.setdefault((run.setting, run.variant), {})
            by_reason.setdefault(run.window.reason or "unknown", []).append(run.seed)
    sentences = []
    for (setting, variant), by_reason in reasons.items():
        details = "; ".join(
            f"seed {', '.join(map(str, seeds))}: {reason}" for reason, seeds in by_reason.items()
        )
        sentences.append(f"{setting}: {variant} is not steady ({details})")
    return sentences


def config_document(config: CompareConfig) -> dict[str, Any]:
    """The resolved configuration with the origin of every value, as it stands in the result."""
    values = config.model_dump(mode="json", by_alias=True)
    kept = {key: value for key, value in values.items() if key not in _OUTSIDE_THE_RESULT}
    origins = {
        key: origin
        for key, origin in config.provenance.items()
        if key.partition(".")[0] not in _OUTSIDE_THE_RESULT
    }
    return kept | {"provenance": origins}


def command(config: CompareConfig) -> str:
    """A command line that asks for the same numbers, whatever file or variable they came from."""
    words = ["apexbench", "compare"]
    defaults = CompareConfig().model_dump(mode="json", by_alias=True)
    values = config.model_dump(mode="json", by_alias=True)
    for key, value in values.items():
        if key in _OUTSIDE_THE_RESULT or value == defaults[key]:
            continue
        flag = "--set" if key == "thresholds" else f"--{key.replace('_', '-')}"
        words += _flag(flag, value)
    return shlex.join(words)


def _flag(flag: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for name, part in value.items() for word in (flag, f"{name}={part}")]
    if isinstance(value, list):
        return [flag, ",".join(map(str, value))]
    return [flag, str(value)]
