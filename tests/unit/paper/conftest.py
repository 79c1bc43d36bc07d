"""Results and claims made from the few values a test is about; nothing ran for them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from apexbench.paper.evidence import Evidence
from apexbench.paper.schema import Claim
from apexbench.result import (
    Draws,
    Environment,
    Lanes,
    LengthSummary,
    Metrics,
    Quantiles,
    Result,
    Run,
    Setting,
    Slo,
    Variant,
    Window,
    WorkloadSummary,
)

LENGTHS = LengthSummary(mean=100, p50=100, p95=100, max=100)


def latency(p50: float) -> Quantiles:
    return Quantiles(mean=p50, p50=p50, p90=p50, p99=None, n=100)


def make_setting(run_id: str, rate: str = "inf", **changes: Any) -> Setting:
    summary = WorkloadSummary(
        name=run_id, source="made up", is_approximated=False, num_requests=40,
        prompt_tokens=LENGTHS, output_tokens=LENGTHS, mean_rate_rps=None, interarrival_cv=None,
    )  # fmt: skip
    setting = Setting(
        id=f"{run_id}/{rate}", scenario=run_id, gpu="t4", host="xeon", model="llama",
        weight_dtype="fp16", kv_dtype="fp16", cpu_kernel="paper", workload=run_id,
        rate_rps=None if rate == "inf" else 1.0, rate_label=rate, slo=Slo(), max_context=None,
        workload_summary=summary,
    )  # fmt: skip
    return setting.model_copy(update=changes)


def make_run(
    setting: Setting,
    variant: str,
    tok_s: float,
    *,
    seed: int = 0,
    draws: Sequence[float] | None = None,
    p50: float = 1.0,
    served: str = "all",
    is_steady: bool = True,
    decisions: Mapping[str, int] | None = None,
) -> Run:
    metrics = Metrics(
        duration_s=10, completed=40, failed=0, unfinished=0, request_throughput_rps=1,
        output_throughput_tok_s=tok_s, total_throughput_tok_s=2 * tok_s, goodput_rps=1,
        slo_attainment=1, ttft_s=latency(p50), tpot_s=latency(p50), itl_s=latency(p50),
        e2e_s=latency(p50), latency_per_token_s=latency(p50),
    )  # fmt: skip
    found = None
    if draws is not None:
        found = Draws(n=len(draws), band80=(1, 1), median=1, throughput_tok_s=tuple(draws))
    return Run(
        setting=setting.id, variant=variant, policy=variant.partition("+")[0], backend="sim",
        seed=seed, weight_dtype="fp16", gpu_kv_tokens=3248, cpu_kv_tokens=9000, trace_sha256="t",
        served_set_sha256=served, window=Window(start_s=0, end_s=10, is_steady=is_steady),
        metrics=metrics, latency_by_tier={"gpu": None, "cpu": None},
        decisions=dict(decisions or {"two_batch": 3, "gpu_only": 1}),
        lanes=Lanes(gpu=1, cpu=0, h2d=0, d2h=0, host=0), gpu_idle={}, overlap_s=0, draws=found,
    )  # fmt: skip


def make_result(settings: Sequence[Setting], runs: Sequence[Run], **config: Any) -> Result:
    environment = Environment(
        created_at="now", python="3", platform="p", cpu_model="c", logical_cpus=1, packages={},
        wall_s=0, simulated_s=0,
    )  # fmt: skip
    names = dict.fromkeys(run.variant for run in runs)
    return Result(
        tool_version="0", kind="compare", config={"gpu_kv_tokens": None} | config,
        command="apexbench compare", environment=environment, settings=tuple(settings),
        variants=tuple(Variant(id=name, policy=name) for name in names), runs=tuple(runs),
    )  # fmt: skip


def backlog(run_id: str, throughputs: Mapping[str, float], **changes: Any) -> Result:
    """One seed at saturation; changes go to the setting."""
    setting = make_setting(run_id, **changes)
    runs = [make_run(setting, name, tok_s) for name, tok_s in throughputs.items()]
    return make_result([setting], runs)


@pytest.fixture(name="make_claim")
def _make_claim() -> Callable[..., Claim]:
    """A gain of 10 to 20 % of apex over gpu-only on run "osc", unless told otherwise."""

    def make(**changes: Any) -> Claim:
        values: dict[str, Any] = {
            "id": "c", "paper": "apex", "text": "a claim", "mark": "P", "value": "+10 % to +20 %",
            "low": 10, "high": 20, "unit": "%", "gpu": "t4", "workload": "osc", "test": "gain",
            "candidate": "apex", "baseline": "gpu-only", "runs": ("osc",), "read": "as it stands",
        }  # fmt: skip
        return Claim.model_validate(values | changes)

    return make


@pytest.fixture(name="drawn")
def _drawn() -> Callable[..., Evidence]:
    """`drawn(apex=(…), neo=(…))`: run "osc" with draws; gpu-only has 100 tok/s in each."""

    def make(**draws: Sequence[float]) -> Evidence:
        setting = make_setting("osc")
        table = {"gpu-only": [100.0] * len(next(iter(draws.values())))} | draws
        runs = [make_run(setting, name, values[0], draws=values) for name, values in table.items()]
        return Evidence({"osc": make_result([setting], runs)})

    return make


@pytest.fixture(name="config_text")
def _config_text() -> str:
    """A valid config with one run, one sweep and two claims."""
    return (Path(__file__).parent / "small.toml").read_text()
