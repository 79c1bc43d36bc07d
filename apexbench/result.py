"""The result document: what a comparison found, versioned, with every circumstance it needs.

One JSON file. Times are seconds, rates per second, units stand in the names; what does not apply
is null. `load()` turns it into tidy pandas DataFrames, the same ones the report tables use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from apexbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
REQUESTS_FILE = "requests.parquet"

Kind = Literal["measured", "datasheet", "anchored", "inferred"]
Verdict = Literal["better", "worse", "no_significant_difference"]


class Document(BaseModel):
    """Base of all parts: unknown keys are refused, values are frozen, NaN cannot enter."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DeviceConstant(Document):
    """One constant of a device profile with its provenance; `sigma` is relative (0.1 = 10 %)."""

    device: str
    name: str
    value: float
    unit: str
    source: str
    kind: Kind
    sigma: float


class LengthSummary(Document):
    """Quantiles of a token-length distribution as served."""

    mean: float
    p50: float
    p95: float
    max: float


class WorkloadSummary(Document):
    """The requests a setting serves: where they come from and what was left out."""

    name: str
    source: str
    is_approximated: bool
    num_requests: int
    prompt_tokens: LengthSummary
    output_tokens: LengthSummary
    mean_rate_rps: float | None  # None when everything arrives at once
    interarrival_cv: float | None  # 1 for Poisson, above 1 for bursty traffic
    dropped: dict[str, int] = {}


class Slo(Document):
    """Targets a request must meet to count towards goodput; None = not demanded."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class Setting(Document):
    """One question: this hardware, this model, this traffic, this rate.

    Settings of one `scenario` differ only in their rate. `rate_rps` None means that all requests
    wait at t = 0 (`rate_label` "inf"); a label such as "0.8x" is a multiple of the scenario's
    gpu-only saturation.
    """

    id: str
    scenario: str
    gpu: str
    gpu_count: int = 1
    host: str
    model: str
    weight_dtype: str
    kv_dtype: str
    cpu_kernel: str
    workload: str
    rate_rps: float | None
    rate_label: str
    slo: Slo
    max_context: int | None
    is_exploratory: bool = False
    workload_summary: WorkloadSummary
    constants: tuple[DeviceConstant, ...] = ()


class Variant(Document):
    """A policy with what was changed from its defaults (thresholds, weight dtype)."""

    id: str
    policy: str
    overrides: dict[str, float | int | str] = {}


class Quantiles(Document):
    """Summary of one latency; a percentile that `n` samples cannot support is None."""

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    n: int


class Metrics(Document):
    """Over the measurement window of the run; formulas stand in apexbench.metrics."""

    duration_s: float
    completed: int
    failed: int  # failed or rejected
    unfinished: int
    request_throughput_rps: float
    output_throughput_tok_s: float
    total_throughput_tok_s: float
    goodput_rps: float
    slo_attainment: float | None
    ttft_s: Quantiles
    tpot_s: Quantiles
    itl_s: Quantiles
    e2e_s: Quantiles
    latency_per_token_s: Quantiles


class TierLatency(Document):
    """Latencies of the requests that one tier served (by where most decode tokens were made)."""

    requests: int
    ttft_s: Quantiles
    tpot_s: Quantiles
    e2e_s: Quantiles


class Lanes(Document):
    """Busy fraction of each lane over the window."""

    gpu: float
    cpu: float
    h2d: float
    d2h: float
    host: float


class Window(Document):
    """The part of the run that is measured. `is_steady` False: too short, `reason` says why."""

    start_s: float
    end_s: float
    is_steady: bool
    reason: str | None = None


class Series(Document):
    """State over time, at most a few hundred points, equal lengths. Rates are per interval."""

    t_s: tuple[float, ...]
    gpu_rows: tuple[float, ...]
    cpu_resident: tuple[float, ...]
    waiting: tuple[float, ...]
    output_tok_s: tuple[float, ...]
    strategy_share: dict[str, tuple[float, ...]]


class Span(Document):
    """One op on a lane in the representative step; times relative to the step's start."""

    lane: str
    kind: str
    group: str
    layer: int | None
    rows: int
    start_s: float
    end_s: float


class Timeline(Document):
    """A representative step: one of the steps with the run's most frequent strategy."""

    strategy: str
    start_s: float  # when the step began, on the run's clock
    step_s: float
    gpu_rows: int
    in_layer_rows: int
    deferred_rows: int
    prefill_tokens: int
    spans: tuple[Span, ...]


class Draws(Document):
    """Outcome under perturbed device constants."""

    n: int
    band80: tuple[float, float]
    wins_fraction: float | None


class Run(Document):
    """One policy on one workload with one seed."""

    setting: str
    variant: str
    policy: str
    backend: Literal["sim", "emulated", "cpu", "cuda"]
    seed: int
    weight_dtype: str
    gpu_kv_tokens: int
    cpu_kv_tokens: int
    trace_sha256: str
    served_set_sha256: str
    window: Window
    metrics: Metrics
    latency_by_tier: dict[Literal["gpu", "cpu"], TierLatency | None]
    decisions: dict[str, int]  # steps by strategy
    lanes: Lanes
    gpu_idle: dict[str, float]  # fraction of the window by what the GPU waited for
    overlap_s: float  # time in the window in which the GPU and the CPU-attention lane both worked
    latency_cdf: dict[str, tuple[float, ...]] = {}  # metric -> values at equally spaced quantiles
    series: Series | None = None
    timeline: Timeline | None = None
    prediction_error: float | None = None
    draws: Draws | None = None
    failures: dict[str, int] = {}  # reason -> requests
    energy_j: float | None = None
    energy_scope: str | None = None
    price_usd_per_hour: float | None = None


class Comparison(Document):
    """Candidate over baseline, paired by seed, only where both served the same requests.

    `ratio` is candidate / baseline (geometric mean over `n` seeds) with a 95 % interval; the
    interval is None when n is 1. `verdict` takes into account whether more is better.
    """

    setting: str
    baseline: str
    candidate: str
    metric: str
    ratio: float
    ci_low: float | None
    ci_high: float | None
    n: int
    verdict: Verdict


class SweepPoint(Document):
    """One value of a swept parameter and what it gave."""

    value: float
    variant: str
    metric: str
    mean: float
    ci_low: float | None
    ci_high: float | None


class Sweep(Document):
    """One parameter varied, everything else held."""

    scenario: str
    parameter: str
    points: tuple[SweepPoint, ...]


class Environment(Document):
    """Where the tool ran. Outside the byte-identity promise of equal seeds."""

    created_at: str
    python: str
    platform: str
    cpu_model: str
    logical_cpus: int
    packages: dict[str, str]
    git_commit: str | None = None
    is_git_dirty: bool | None = None
    wall_s: float
    simulated_s: float  # virtual seconds simulated in total


class Result(Document):
    """The whole document."""

    schema_version: Literal[1] = 1
    tool_version: str
    kind: Literal["compare"]
    is_partial: bool = False  # interrupted: holds what was done
    config: dict[str, Any]  # resolved; `command` reproduces it
    command: str
    environment: Environment
    warnings: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    variants: tuple[Variant, ...] = ()
    runs: tuple[Run, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    sweeps: tuple[Sweep, ...] = ()


def json_schema() -> str:
    """The JSON Schema of the result document."""
    return json.dumps(Result.model_json_schema(), indent=2, sort_keys=True) + "\n"


def to_json(result: Result) -> str:
    """Canonical text: equal documents give equal bytes."""
    return json.dumps(result.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Result:
    """Parse and validate a result file; InputError says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read result file '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is not a result file: it is not UTF-8 text") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Result:
    """Validate the text of a result document; `name` is used in the error sentence."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"'{name}' is not JSON (line {error.lineno}: {error.msg})") from error
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"'{name}' has schema_version {version!r}; this apexbench reads {SCHEMA_VERSION}"
        )
    try:
        return Result.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"'{name}' is not a valid result: {where}: {first['msg']}") from error


@dataclass(frozen=True, slots=True)
class Frames:
    """Tidy tables of a result: one row per run, per request (if known), per comparison."""

    runs: "pd.DataFrame"
    requests: "pd.DataFrame | None"
    comparisons: "pd.DataFrame"


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
    )


_SETTING_COLUMNS = ("scenario", "gpu", "host", "model", "workload", "rate_label", "rate_rps")
_RUN_COLUMNS = (
    "setting", "variant", "policy", "backend", "seed", "weight_dtype",
    "gpu_kv_tokens", "cpu_kv_tokens", "overlap_s",
)  # fmt: skip


def _run_row(run: Run, setting: Setting) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(setting, name) for name in _SETTING_COLUMNS}
    row |= {name: getattr(run, name) for name in _RUN_COLUMNS}
    row["is_steady"] = run.window.is_steady
    row |= _flatten("", run.metrics.model_dump())
    row |= _flatten("lane_", run.lanes.model_dump())
    row |= {f"steps_{name}": steps for name, steps in run.decisions.items()}
    return row


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
