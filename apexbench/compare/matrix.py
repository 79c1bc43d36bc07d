"""Which cells a comparison consists of: scenarios by rates by variants by seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from apexbench.compare.cells import Cell
from apexbench.compare.scenarios import Placement, Scenario
from apexbench.config import Rate
from apexbench.records import Workload
from apexbench.result import Setting
from apexbench.workloads.arrivals import Arrivals
from apexbench.workloads.build import build, summarize, within

BACKLOG = Rate("inf")


@dataclass(frozen=True, slots=True, eq=False)
class SettingCells:
    """A setting with its cells, in the order of variants and seeds."""

    document: Setting
    cells: tuple[Cell, ...]
    num_left_out: int  # requests (over all seeds) that some variant could not serve


def setting_cells(
    scenario: Scenario,
    rate: Rate,
    saturation_rps: float | None,
    seeds: Sequence[int],
    placements: Sequence[Placement],
    duration_s: float | None,
) -> SettingCells:
    """All cells at one rate. `saturation_rps` of gpu-only turns a multiple into requests/s."""
    rate_rps = _rate_rps(rate, saturation_rps)
    setting_id = f"{scenario.id}/{rate.label}"
    workloads = {seed: workload_of(scenario, rate_rps, seed, duration_s) for seed in seeds}
    served = {seed: within(full, scenario.served_tokens) for seed, full in workloads.items()}
    cells = [
        Cell(setting_id, placement, served[seed], scenario.slo, rate_rps, seed, seed == seeds[0])
        for placement in placements
        for seed in seeds
    ]
    left_out = sum(len(workloads[s].requests) - len(served[s].requests) for s in seeds)
    document = setting_document(scenario, setting_id, rate, rate_rps, served[seeds[0]])
    return SettingCells(document, tuple(cells), left_out)


def _rate_rps(rate: Rate, saturation_rps: float | None) -> float | None:
    if rate.multiple is None:
        return rate.rps
    assert saturation_rps is not None
    return rate.multiple * saturation_rps


def workload_of(
    scenario: Scenario, rate_rps: float | None, seed: int, duration_s: float | None
) -> Workload:
    """The same lengths at every rate; a trace keeps its bursts, everything else is Poisson."""
    count: int | None = scenario.backlog_requests
    if rate_rps is None:
        arrivals, duration_s = Arrivals.all_at_once(), None
    else:
        count = scenario.open_requests
        has_own = scenario.source.has_arrivals
        arrivals = Arrivals.trace(rate_rps) if has_own else Arrivals.poisson(rate_rps)
    return build(
        scenario.source,
        arrivals=arrivals,
        num_requests=count,
        duration_s=duration_s,
        seed=seed,
        max_context=scenario.max_context,
    )


def setting_document(
    scenario: Scenario, setting_id: str, rate: Rate, rate_rps: float | None, workload: Workload
) -> Setting:
    """The setting as it stands in a result, summed up by one of its workloads."""
    base = scenario.baseline.hardware
    return Setting(
        id=setting_id,
        scenario=scenario.id,
        gpu=base.gpu.name,
        gpu_count=base.gpu_count,
        host=base.host.name,
        model=base.model.name,
        weight_dtype=base.weight_dtype,
        kv_dtype=base.kv_dtype,
        cpu_kernel=base.cpu_kernel.name,
        workload=scenario.source.name,
        rate_rps=rate_rps,
        rate_label=rate.label,
        slo=scenario.slo,
        max_context=scenario.max_context.tokens,
        is_exploratory=scenario.source.is_approximated,
        workload_summary=summarize(workload),
        constants=base.constants() if rate is BACKLOG else (),
    )
