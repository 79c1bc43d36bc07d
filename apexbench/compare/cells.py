"""One cell of a comparison: a variant, a rate, a seed. Runs in any process with the same result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from apexbench.compare.run_details import decision_log, steps, timeline
from apexbench.compare.scenarios import Placement, modelled
from apexbench.engine.policies.base import Targets
from apexbench.engine.simulate import SimulationSpec, pools_of, simulate
from apexbench.metrics.measure import Measurement, measure
from apexbench.metrics.series import stretch_amid
from apexbench.records import NS_PER_S, RequestRecord, RunLog, Workload
from apexbench.result import Run, Slo

CellProgress = Callable[[int], None]  # requests completed so far
Backend = Literal["sim", "emulated", "cpu"]


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything a run needs. `rate_rps` None: all requests wait at t = 0."""

    setting: str
    placement: Placement
    workload: Workload
    slo: Slo
    rate_rps: float | None
    seed: int
    keeps_details: bool  # time series, distributions and a timeline: for one seed only


@dataclass(frozen=True, slots=True)
class CellResult:
    """What a cell found: its run and one column per request field."""

    run: Run
    requests: Mapping[str, NDArray[np.float64] | NDArray[np.int64] | list[str]]
    simulated_s: float


def run_cell(cell: Cell, on_progress: CellProgress | None = None) -> CellResult:
    """Simulate and measure one cell."""
    placement = cell.placement
    entry = placement.variant.entry
    spec = SimulationSpec(
        workload=cell.workload,
        policy=entry.name,
        belief=modelled(placement.belief).costs(),
        truth=placement.deployment.costs(),
        targets=Targets(cell.slo.ttft_s, cell.slo.tpot_s),
        pools=pools_of(placement.deployment, placement.capacity, uses_cpu=entry.uses_cpu),
        thresholds=placement.thresholds,
        keeps_steps=keeps_steps(cell),
    )
    tick = None if on_progress is None else (lambda completed, _: on_progress(completed))
    log = simulate(spec, on_progress=tick)
    return CellResult(run_of(cell, log, "sim"), columns(log.requests), log.end_ns / NS_PER_S)


def run_of(cell: Cell, log: RunLog, backend: Backend) -> Run:
    """What the log of a cell's run says, as it stands in a result."""
    defers = cell.placement.variant.entry.defers
    measured = measure(
        log, cell.workload.requests, cell.slo, rate_rps=cell.rate_rps, is_deferring=defers
    )
    return _run(cell, log, measured, backend)


def _run(cell: Cell, log: RunLog, measured: Measurement, backend: Backend) -> Run:
    placement = cell.placement
    details = cell.keeps_details
    is_backlog = cell.rate_rps is None
    return Run(
        setting=cell.setting,
        variant=placement.variant.id,
        policy=placement.variant.entry.name,
        backend=backend,
        seed=cell.seed,
        weight_dtype=placement.hardware.weight_dtype,
        gpu_kv_tokens=log.gpu_kv_tokens,
        cpu_kv_tokens=log.cpu_kv_tokens,
        trace_sha256=cell.workload.sha256,
        served_set_sha256=measured.served_set_sha256,
        window=measured.window,
        metrics=measured.metrics,
        latency_by_tier=measured.latency_by_tier,
        decisions=measured.decisions,
        lanes=measured.lanes,
        gpu_idle=measured.gpu_idle,
        overlap_s=measured.overlap_s,
        latency_cdf=measured.latency_cdf if details else {},
        series=measured.series if details else None,
        timeline=timeline(log.timelines) if details and is_backlog else None,
        steps=steps(stretch_amid(log.stretches, measured.window)),
        decision_log=decision_log(log.decisions) if details and is_backlog else (),
        prediction_error=log.prediction_error,
        failures=measured.failures,
        price_usd_per_hour=placement.hardware.price_usd_per_hour,
    )


def keeps_steps(cell: Cell) -> bool:
    """At saturation, where policies differ most; at every rate the result would become large."""
    return cell.keeps_details and cell.rate_rps is None


def columns(
    records: tuple[RequestRecord, ...],
) -> Mapping[str, NDArray[np.float64] | NDArray[np.int64] | list[str]]:
    """Per-request columns; a time that does not exist is NaN."""
    columns: dict[str, NDArray[np.float64] | NDArray[np.int64] | list[str]] = {
        name: np.array([getattr(record, name) for record in records], dtype=np.int64)
        for name in _COUNTS
    }
    for name in _TIMES:
        values = [getattr(record, f"{name}_ns") for record in records]
        columns[f"{name}_s"] = np.array(
            [np.nan if value is None else value / NS_PER_S for value in values], dtype=np.float64
        )
    columns["status"] = [record.status.value for record in records]
    columns["reason"] = [record.reason or "" for record in records]
    return columns


_COUNTS = ("id", "prompt_tokens", "output_tokens", "cpu_decode_tokens", "preemptions", "swaps")
_TIMES = ("arrival", "start", "first_token", "end")
