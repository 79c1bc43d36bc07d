"""The questions of a result document: settings and the variants that answer them."""

from pydantic import Field

from apexbench.result.base import Document, Kind


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
    dropped: dict[str, int] = Field(default_factory=dict)


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
    overrides: dict[str, float | int | str] = Field(default_factory=dict)
