"""Settings and runs as documents, made from the few values a test is about."""

from collections.abc import Callable
from typing import Any

import pytest

from apexbench.result import (
    Lanes,
    LengthSummary,
    Metrics,
    Quantiles,
    Run,
    Setting,
    Slo,
    Window,
    WorkloadSummary,
)

LENGTHS = LengthSummary(mean=100, p50=100, p95=100, max=100)
LATENCY = Quantiles(mean=0.5, p50=0.5, p90=0.9, p99=0.99, n=1_000)


@pytest.fixture(name="make_setting")
def _make_setting() -> Callable[..., Setting]:
    """`make(label, scenario)`: "inf" is the backlog, "1x" one request/s."""

    def make(label: str = "inf", scenario: str = "t4/llama-2-7b/osc", **changes: Any) -> Setting:
        gpu, model, workload = scenario.split("/")
        summary = WorkloadSummary(
            name=workload, source="made up", is_approximated=False, num_requests=40,
            prompt_tokens=LENGTHS, output_tokens=LENGTHS, mean_rate_rps=None, interarrival_cv=None,
        )  # fmt: skip
        rate = None if label == "inf" else float(label.removesuffix("x"))
        setting = Setting(
            id=f"{scenario}/{label}", scenario=scenario, gpu=gpu, host="xeon", model=model,
            weight_dtype="fp16", kv_dtype="fp16", cpu_kernel="paper", workload=workload,
            rate_rps=rate, rate_label=label, slo=Slo(), max_context=None,
            workload_summary=summary,
        )  # fmt: skip
        return setting.model_copy(update=changes)

    return make


@pytest.fixture(name="make_run")
def _make_run() -> Callable[..., Run]:
    """`make(setting, variant, seed)`; keywords change metrics, `reason` makes it unsteady."""

    def make(
        setting: Setting | str,
        variant: str = "gpu-only",
        seed: int = 0,
        *,
        reason: str | None = None,
        served: str = "all",
        **metrics: Any,
    ) -> Run:
        values = {
            "duration_s": 10.0, "completed": 40, "failed": 0, "unfinished": 0,
            "request_throughput_rps": 1.0, "output_throughput_tok_s": 100.0,
            "total_throughput_tok_s": 200.0, "goodput_rps": 1.0, "slo_attainment": 1.0,
            "ttft_s": LATENCY, "tpot_s": LATENCY, "itl_s": LATENCY, "e2e_s": LATENCY,
            "latency_per_token_s": LATENCY,
        }  # fmt: skip
        return Run(
            setting=setting if isinstance(setting, str) else setting.id,
            variant=variant, policy=variant.partition("+")[0], backend="sim", seed=seed,
            weight_dtype="fp16", gpu_kv_tokens=1, cpu_kv_tokens=1, trace_sha256="t",
            served_set_sha256=served,
            window=Window(start_s=0, end_s=10, is_steady=reason is None, reason=reason),
            metrics=Metrics(**(values | metrics)), latency_by_tier={"gpu": None, "cpu": None},
            decisions={}, lanes=Lanes(gpu=1, cpu=0, h2d=0, d2h=0, host=0), gpu_idle={},
            overlap_s=0,
        )  # fmt: skip

    return make
