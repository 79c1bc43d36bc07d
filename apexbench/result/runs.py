"""One run of a result document: what was measured, and what led to it."""

from typing import Literal

from pydantic import Field

from apexbench.result.base import Document
from apexbench.result.measured import Measured, StepTimes


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
    latency_per_token_s: Quantiles


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
    """Output throughput at saturation under perturbed device constants; belief stays nominal.

    Draw i has the same constants for every variant of a setting, so ratios to the baseline are
    paired. `ratios`, `ratio_band80` and `wins_fraction` are None for the baseline itself.
    """

    n: int
    band80: tuple[float, float]  # 10th and 90th percentile of `throughput_tok_s`
    median: float
    ratio_band80: tuple[float, float] | None = None
    ratio_median: float | None = None
    wins_fraction: float | None = None  # draws in which it beats the baseline
    throughput_tok_s: tuple[float, ...] = ()
    ratios: tuple[float, ...] | None = None


class Prediction(Document):
    """What a policy expected of one candidate plan."""

    plan: str
    strategy: str
    prefill_tokens: int
    in_layer_rows: int
    deferred_rows: int
    step_s: float
    rate_tok_s: float
    gain_tokens: float  # what the policy maximises
    tpot_s: float | None  # of the slowest row; None without decoding rows
    is_within_targets: bool


class Decision(Document):
    """One decision of a policy that keeps a log: every candidate, and why one was taken."""

    step: int
    start_s: float
    chosen: int  # index into `candidates`
    reason: str
    candidates: tuple[Prediction, ...]


class StepTrace(Document):
    """One step of a stretch of consecutive steps."""

    step: int
    start_s: float
    step_s: float
    strategy: str
    prefill_tokens: int
    gpu_rows: int
    in_layer_rows: int
    deferred_rows: int
    predicted: StepTimes | None = None  # by the policy's belief; runs in real time alone
    measured: StepTimes | None = None


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
    # metric -> values at equally spaced quantiles
    latency_cdf: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    series: Series | None = None
    timeline: Timeline | None = None
    steps: tuple[StepTrace, ...] = ()
    decision_log: tuple[Decision, ...] = ()
    prediction_error: float | None = None
    draws: Draws | None = None
    measured: Measured | None = None  # None for runs in virtual time
    failures: dict[str, int] = Field(default_factory=dict)  # reason -> requests
    energy_j: float | None = None
    energy_scope: str | None = None
    price_usd_per_hour: float | None = None
