"""Which bench a comparison runs on, and what its document says because of it."""

from collections.abc import Iterator, Mapping, Sequence

from apexbench.compare import caveats
from apexbench.compare.machines.real_model import CpuMachine
from apexbench.compare.matrix import SettingCells
from apexbench.compare.realtime.bench import Bench, host_need
from apexbench.compare.realtime.emulated import EmulatedBench
from apexbench.compare.realtime.real_model import RealModelBench
from apexbench.compare.scenarios import Scenario
from apexbench.config import CompareConfig
from apexbench.result import Run, Setting


def bench_of(config: CompareConfig, scenarios: Sequence[Scenario]) -> Bench | None:
    """None for runs in virtual time. InputError where what it needs is not installed."""
    if config.backend == "emulated":
        return EmulatedBench()
    if config.backend == "cpu":
        return RealModelBench([p for scenario in scenarios for p in scenario.placements])
    return None


def notes(scenario: Scenario, part: SettingCells, host: str | None) -> Iterator[str]:
    """What limits a scenario on this machine; `host` is the profile that the user named."""
    machine, held = scenario.baseline.hardware, scenario.baseline.capacity.cpu_kv_tokens
    largest = max((cell.workload.requests for cell in part.cells), key=host_need, default=())
    if held < host_need(largest):
        rows = held * len(largest) // host_need(largest)
        yield caveats.host_rows(scenario.id, held, rows, len(largest))
    if host is None and not isinstance(machine, CpuMachine):
        yield caveats.believed_host(scenario.id, machine.host.name)


def calibrated(bench: Bench, settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """The settings that list constants, with what the bench has found."""
    found = bench.constants()
    return tuple(
        setting.model_copy(update={"constants": setting.constants + found})
        if setting.rate_rps is None
        else setting
        for setting in settings
    )


def trusted(runs: Sequence[Run]) -> bool:
    """Whether nothing disturbed them."""
    return all(run.measured is None or run.measured.is_trustworthy for run in runs)


def comparable(runs: Sequence[Run], settings: Sequence[Setting]) -> tuple[Run, ...]:
    """Without scenarios in which some run is not to be trusted: nothing is concluded of those."""
    scenario_of = {setting.id: setting.scenario for setting in settings}
    doubtful = {scenario_of[run.setting] for run in runs if not trusted([run])}
    return tuple(run for run in runs if scenario_of[run.setting] not in doubtful)


def threads(bench: Bench, scenarios: Sequence[Scenario]) -> Mapping[str, int]:
    """Threads by lane of the baseline."""
    baseline = scenarios[0].baseline
    found = {"gpu": bench.gpu_threads(baseline), "cpu": baseline.hardware.cpu_threads}
    return {lane: count for lane, count in found.items() if count is not None}
