"""A result document as tidy pandas DataFrames, the same ones the report tables use."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apexbench.result.document import Result, read
from apexbench.result.findings import Sweep
from apexbench.result.measured import Measured
from apexbench.result.runs import Draws, Run
from apexbench.result.settings import Setting

if TYPE_CHECKING:
    import pandas as pd

REQUESTS_FILE = "requests.parquet"


@dataclass(frozen=True, slots=True)
class Frames:
    """Tidy tables of a result: one row per run, per request (if known), per comparison.

    `sweeps` has one row per point and variant. Swept values stand in a column per parameter,
    "swept_gpu_kv_tokens", empty in the rows of sweeps that hold it; `sweep` joins the parameters of
    a sweep by "/". `sensitivities` has one row per bar of the tornado. Without rows a table is
    empty and has no columns.
    """

    runs: "pd.DataFrame"
    requests: "pd.DataFrame | None"
    comparisons: "pd.DataFrame"
    sweeps: "pd.DataFrame"
    sensitivities: "pd.DataFrame"


def load(path: str | Path) -> Frames:
    """Read `result.json` (or the directory that holds it) into DataFrames.

    `requests` comes from requests.parquet beside it and is None where that file is absent.
    """
    target = Path(path)
    if target.is_dir():
        target = target / "result.json"
    return frames(read(target), target.parent / REQUESTS_FILE)


def frames(result: Result, requests_path: Path | None = None) -> Frames:
    """The tidy tables of a document in memory."""
    import pandas as pd  # noqa: PLC0415 - a second of import that most commands do not need

    requests = None
    if requests_path is not None and requests_path.exists():
        requests = pd.read_parquet(requests_path)
    settings = {setting.id: setting for setting in result.settings}
    return Frames(
        runs=pd.DataFrame([_run_row(run, settings[run.setting]) for run in result.runs]),
        requests=requests,
        comparisons=pd.DataFrame([c.model_dump() for c in result.comparisons]),
        sweeps=pd.DataFrame(list(_sweep_rows(result.sweeps))),
        sensitivities=pd.DataFrame([bar.model_dump() for bar in result.sensitivities]),
    )


_SETTING_COLUMNS = ("scenario", "gpu", "host", "model", "workload", "rate_label", "rate_rps")
_RUN_COLUMNS = (
    "setting", "variant", "policy", "backend", "seed", "weight_dtype",
    "gpu_kv_tokens", "cpu_kv_tokens", "overlap_s",
)  # fmt: skip


def _sweep_rows(sweeps: Sequence[Sweep]) -> Iterator[dict[str, Any]]:
    """Prefixed, because a capacity that is swept is also what each variant ends up with."""
    parameters = dict.fromkeys(name for sweep in sweeps for name in sweep.parameters)
    for sweep in sweeps:
        for point in sweep.points:
            values = dict(zip(sweep.parameters, point.values, strict=True))
            yield {
                "scenario": sweep.scenario,
                "sweep": "/".join(sweep.parameters),
                **{f"swept_{name}": values.get(name) for name in parameters},
                **point.model_dump(exclude={"values"}),
                "baseline": sweep.baseline,
                "num_requests": sweep.num_requests,
            }


def _run_row(run: Run, setting: Setting) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(setting, name) for name in _SETTING_COLUMNS}
    row |= {f"slo_{name}": target for name, target in setting.slo.model_dump().items()}
    row |= {name: getattr(run, name) for name in _RUN_COLUMNS}
    row["is_steady"] = run.window.is_steady
    row |= _flatten("", run.metrics.model_dump())
    row |= _flatten("lane_", run.lanes.model_dump())
    row |= {f"steps_{name}": steps for name, steps in run.decisions.items()}
    if run.draws is not None:
        row |= _draws_columns(run.draws)
    if run.measured is not None:
        row |= _measured_columns(run.measured)
    return row


def _measured_columns(measured: Measured) -> dict[str, Any]:
    """Of runs in real time: whether to believe them, their overhead, errors by lane."""
    python, late = measured.python_s_per_step, measured.lateness_s
    return {
        "is_trustworthy": measured.is_trustworthy,
        "python_s_per_step_mean": python.mean if python else None,
        "python_s_per_step_p99": python.p99 if python else None,
        "lateness_s_p99": late.p99 if late else None,
        **{f"lane_{lane}_cpu_s": value for lane, value in measured.lane_cpu_s.items()},
        **{
            f"lane_{lane}_prediction_error": value
            for lane, value in measured.lane_prediction_error.items()
        },
    }


def _draws_columns(draws: Draws) -> dict[str, Any]:
    """Over the draws of the device constants; ratios are to the baseline of the same draw."""
    low, high = draws.ratio_band80 or (None, None)
    return {
        "draws_n": draws.n,
        "draws_wins_fraction": draws.wins_fraction,
        "draws_ratio_median": draws.ratio_median,
        "draws_ratio_p10": low,
        "draws_ratio_p90": high,
    }


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """{"ttft_s": {"p50": 1}} -> {"ttft_p50_s": 1}: the unit stays at the end of the name."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if not isinstance(value, Mapping):
            row[prefix + name] = value
            continue
        stem = name.removesuffix("_s")
        row |= {f"{stem}_{key}" + ("" if key == "n" else "_s"): v for key, v in value.items()}
    return row
