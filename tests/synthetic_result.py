"""Invented but plausible result documents for tests; no engine produced any of these numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Literal

import numpy as np

from apexbench.result import (
    Comparison,
    Decision,
    DeviceConstant,
    Environment,
    Lanes,
    LengthSummary,
    Metrics,
    Prediction,
    Quantiles,
    Result,
    Run,
    Series,
    Setting,
    Slo,
    Span,
    StepTrace,
    Sweep,
    SweepPoint,
    TierLatency,
    Timeline,
    Variant,
    Window,
    WorkloadSummary,
)
from apexbench.result import Verdict as Outcome

T_975 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}  # Student t, two-sided 95 %, by number of seeds
FINITE_LABELS = ("0.5x", "0.8x", "1x", "1.2x")
LATENCIES = ("ttft", "tpot", "e2e", "latency_per_token")
METRICS = (
    "output_throughput_tok_s",
    "goodput_rps",
    *(
        f"{tier}{latency}_{percentile}_s"
        for tier in ("", "gpu_tier_", "cpu_tier_")
        for latency in LATENCIES
        for percentile in ("p50", "p90")
    ),
)
MORE_IS_BETTER = ("output_throughput_tok_s", "goodput_rps")


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario: names, the gpu-only token rate and request length, and its pitfalls."""

    name: str
    gpu: str
    host: str
    model: str
    workload: str
    gpu_only_tok_s: float
    output_tokens: float
    gpu_kv_tokens: int
    is_exploratory: bool = False
    is_steady: bool = True
    int4_gain: float = 1.0  # by how much smaller weights help more here than elsewhere


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a variant relates to gpu-only: throughput and TPOT factors, share of CPU-tier rows."""

    policy: str
    throughput: float
    tpot: float
    cpu_share: float
    strategy: str
    weight_dtype: str = "fp16"


CASES = (
    Case(
        "t4 · llama-2-7b · osc", "t4", "xeon-6130x2", "llama-2-7b", "osc", 111.0, 38.0, 3_008
    ),
    Case(
        "t4 · llama-2-7b · reasoning", "t4", "xeon-6130x2", "llama-2-7b", "reasoning",
        98.0, 1900.0, 3_008, is_exploratory=True, is_steady=False,
    ),
    Case(
        "a10 · llama-3.1-8b · azure-conv", "a10", "xeon-6342x2", "llama-3.1-8b", "azure-conv",
        640.0, 210.0, 35_200, int4_gain=1.35,
    ),
)  # fmt: skip
BEHAVIOURS = {
    "gpu-only": Behaviour("gpu-only", 1.0, 1.0, 0.0, "gpu_only"),
    "gpu-only+int4": Behaviour("gpu-only", 1.62, 0.55, 0.0, "gpu_only", "int4"),
    "neo": Behaviour("neo", 1.21, 1.5, 0.2, "two_batch"),
    "apex": Behaviour("apex", 1.44, 1.25, 0.3, "two_batch"),
    "static:deferred": Behaviour("static:deferred", 1.87, 1.04, 0.45, "deferred"),
    "static:two_batch": Behaviour("static:two_batch", 0.82, 1.9, 0.3, "two_batch"),
    "planner": Behaviour("planner", 1.9, 1.02, 0.35, "fused"),
    "fastdecode": Behaviour("fastdecode", 0.7, 2.2, 1.0, "two_batch"),
    "static:in_layer": Behaviour("static:in_layer", 1.1, 1.2, 0.1, "in_layer"),
    "gpu-only+chunk256": Behaviour("gpu-only", 2.1, 0.9, 0.0, "gpu_only"),
}
SIX_VARIANTS = tuple(BEHAVIOURS)[:6]
NUM_LAYERS = 32
TPOT_TARGET_S = 0.4  # at saturation only static:two_batch and fastdecode are slower


def build(
    seeds: int = 3,
    cases: Sequence[Case] = CASES,
    variants: Sequence[str] = SIX_VARIANTS,
    labels: Sequence[str] = (*FINITE_LABELS, "inf"),
    backend: Literal["sim", "emulated", "cpu", "cuda"] = "sim",
    is_partial: bool = False,
    is_interrupted: bool = False,
) -> Result:
    """A document with every case at every rate label under every variant and seed."""
    settings = tuple(_setting(case, label) for case in cases for label in labels)
    case_of = {_setting_id(case, label): case for case in cases for label in labels}
    runs = tuple(
        _run(case_of[setting.id], setting, variant, seed, backend)
        for setting in settings
        for variant in variants
        for seed in range(1, seeds + 1)
    )
    return Result(
        tool_version="0.1.0",
        kind="compare",
        is_partial=is_partial,
        is_interrupted=is_interrupted,
        config={"gpu": "t4", "seeds": seeds, "policies": list(variants), "slo": {"ttft": 2.0}},
        command="apexbench compare --gpu t4 --seeds 3",
        environment=_environment(),
        warnings=("p99 of ttft_s needs 662 samples; 400 were measured",),
        settings=settings,
        variants=tuple(_variant(name) for name in variants),
        runs=runs,
        comparisons=tuple(_comparisons(runs)),
        sweeps=tuple(_sweeps(cases[0], variants, seeds)),
    )


def zero_successes() -> Result:
    """Every request failed: rates are 0, latencies are absent, nothing can be compared."""
    result = build(seeds=1, cases=CASES[:1], labels=("0.8x", "inf"))
    nothing = Quantiles(mean=None, p50=None, p90=None, p99=None, n=0)
    metrics = Metrics(
        duration_s=60.0, completed=0, failed=400, unfinished=0, request_throughput_rps=0.0,
        output_throughput_tok_s=0.0, total_throughput_tok_s=0.0, goodput_rps=0.0,
        slo_attainment=None, ttft_s=nothing, tpot_s=nothing, itl_s=nothing, e2e_s=nothing,
        latency_per_token_s=nothing,
    )  # fmt: skip
    silent = {
        "metrics": metrics,
        "latency_by_tier": {"gpu": None, "cpu": None},
        "latency_cdf": {},
        "series": None,
        "timeline": None,
        "steps": (),
        "decision_log": (),
        "decisions": {},
        "failures": {"prompt does not fit": 400},
    }
    runs = tuple(run.model_copy(update=silent) for run in result.runs)
    return result.model_copy(update={"runs": runs, "comparisons": (), "sweeps": ()})


def empty() -> Result:
    """Interrupted before the first run ended."""
    result = build(seeds=1, is_partial=True, is_interrupted=True)
    return result.model_copy(update={"runs": (), "comparisons": (), "sweeps": ()})


HOSTILE = "</script><script>window.pwned=1</script>\"'&`|\n<a href=x>é∞ %{x} $x$"


def hostile() -> Result:
    """Markup, quotes and format characters in every name a user can choose."""
    text = build(seeds=2, cases=CASES[:1], variants=("gpu-only", "apex")).model_dump_json()
    document = Result.model_validate_json(text)
    settings = tuple(
        s.model_copy(update={"scenario": HOSTILE, "gpu": HOSTILE, "workload": HOSTILE})
        for s in document.settings
    )
    renamed = {"apex": HOSTILE}
    variants = tuple(
        v.model_copy(update={"id": renamed.get(v.id, v.id), "policy": renamed.get(v.id, v.policy)})
        for v in document.variants
    )
    runs = tuple(
        r.model_copy(update={"variant": renamed.get(r.variant, r.variant)}) for r in document.runs
    )
    comparisons = tuple(
        c.model_copy(update={"candidate": renamed.get(c.candidate, c.candidate)})
        for c in document.comparisons
    )
    return document.model_copy(
        update={
            "settings": settings,
            "variants": variants,
            "runs": runs,
            "comparisons": comparisons,
            "sweeps": tuple(_hostile_sweep(sweep, renamed) for sweep in document.sweeps),
            "warnings": (HOSTILE,),
            "command": HOSTILE,
            "config": {"workload": HOSTILE},
        }
    )


def _hostile_sweep(sweep: Sweep, renamed: dict[str, str]) -> Sweep:
    points = tuple(
        p.model_copy(update={"variant": renamed.get(p.variant, p.variant)}) for p in sweep.points
    )
    parameters = (HOSTILE, *sweep.parameters[1:])
    return sweep.model_copy(
        update={"scenario": HOSTILE, "parameters": parameters, "points": points}
    )


def _setting_id(case: Case, label: str) -> str:
    return f"{case.gpu}-{case.workload}-{label}"


def _saturation_rps(case: Case) -> float:
    return case.gpu_only_tok_s / case.output_tokens


def _load(label: str) -> float | None:
    return None if label == "inf" else float(label.removesuffix("x"))


def _setting(case: Case, label: str) -> Setting:
    load = _load(label)
    rate = None if load is None else load * _saturation_rps(case)
    return Setting(
        id=_setting_id(case, label),
        scenario=case.name,
        gpu=case.gpu,
        host=case.host,
        model=case.model,
        weight_dtype="fp16",
        kv_dtype="fp16",
        cpu_kernel="paper",
        workload=case.workload,
        rate_rps=rate,
        rate_label=label,
        slo=Slo(ttft_s=2.0, tpot_s=TPOT_TARGET_S),
        max_context=4096,
        is_exploratory=case.is_exploratory,
        workload_summary=_workload(case, rate),
        constants=_constants(case),
    )


def _workload(case: Case, rate: float | None) -> WorkloadSummary:
    output = case.output_tokens
    return WorkloadSummary(
        name=case.workload,
        source="quantile table of a public trace",
        is_approximated=case.is_exploratory,
        num_requests=400,
        prompt_tokens=LengthSummary(mean=402.0, p50=371.0, p95=702.0, max=1180.0),
        output_tokens=LengthSummary(mean=output, p50=0.9 * output, p95=2 * output, max=3 * output),
        mean_rate_rps=rate,
        interarrival_cv=None if rate is None else 1.0,
        dropped={"longer than --max-context 4096": 3},
    )


def _constants(case: Case) -> tuple[DeviceConstant, ...]:
    gpu = (
        ("peak_tflops", 65.0, "TFLOP/s", "datasheet", "datasheet", 0.02),
        ("compute_efficiency", 0.35, "1", "public GEMM tables", "anchored", 0.1),
        ("dram_gb_per_s", 320.0, "GB/s", "datasheet", "datasheet", 0.02),
    )
    host = (("paper_kernel_gb_per_s", 18.0, "GB/s", "profile sample", "inferred", 0.3),)
    rows = [(case.gpu, row) for row in gpu] + [(case.host, row) for row in host]
    return tuple(
        DeviceConstant(
            device=device, name=row[0], value=row[1], unit=row[2],
            source=row[3], kind=row[4], sigma=row[5],
        )
        for device, row in rows
    )  # fmt: skip


def _variant(name: str) -> Variant:
    behaviour = BEHAVIOURS[name]
    overrides: dict[str, float | int | str] = {}
    if behaviour.weight_dtype != "fp16":
        overrides["weights"] = behaviour.weight_dtype
    return Variant(id=name, policy=behaviour.policy, overrides=overrides)


def _run(
    case: Case,
    setting: Setting,
    name: str,
    seed: int,
    backend: Literal["sim", "emulated", "cpu", "cuda"],
) -> Run:
    behaviour = BEHAVIOURS[name]
    rng = np.random.default_rng([seed, *name.encode(), *setting.id.encode()])
    noise = float(np.exp(rng.normal(0.0, 0.012)))
    metrics = _metrics(case, setting, behaviour, noise)
    is_detailed = seed == 1 and setting.rate_rps is None
    busy = 0.9 if setting.rate_rps is None else 0.7
    kv_tokens = case.gpu_kv_tokens * (4 if behaviour.weight_dtype == "int4" else 1)
    return Run(
        setting=setting.id,
        variant=name,
        policy=behaviour.policy,
        backend=backend,
        seed=seed,
        weight_dtype=behaviour.weight_dtype,
        gpu_kv_tokens=kv_tokens,
        cpu_kv_tokens=0 if behaviour.cpu_share == 0 else 300_000,
        trace_sha256="ab" * 32,
        served_set_sha256="cd" * 32,
        window=_window(case),
        metrics=metrics,
        latency_by_tier=_tiers(metrics, behaviour),
        decisions=_decisions(behaviour),
        lanes=Lanes(
            gpu=busy, cpu=1.9 * behaviour.cpu_share, h2d=0.08 * behaviour.cpu_share,
            d2h=0.1 * behaviour.cpu_share, host=0.04,
        ),
        gpu_idle=_idle(behaviour, 1.0 - busy),
        overlap_s=40.0 * behaviour.cpu_share,
        latency_cdf=_cdfs(metrics),
        series=_series(behaviour, metrics, rng),
        timeline=_timeline(behaviour),
        steps=_steps(behaviour) if is_detailed else (),
        decision_log=_decision_log() if is_detailed and name == "planner" else (),
    )  # fmt: skip


def _window(case: Case) -> Window:
    reason = None if case.is_steady else "the window holds 0.6 generations of requests, 2 needed"
    return Window(start_s=12.0, end_s=92.0, is_steady=case.is_steady, reason=reason)


def _metrics(case: Case, setting: Setting, behaviour: Behaviour, noise: float) -> Metrics:
    gain = case.int4_gain if behaviour.weight_dtype == "int4" else 1.0
    capacity = case.gpu_only_tok_s * behaviour.throughput * gain * noise
    offered = None if setting.rate_rps is None else setting.rate_rps * case.output_tokens
    tok_s = capacity if offered is None else min(capacity, offered)
    load = 3.0 if offered is None else min(offered / capacity, 1.6)
    tpot = 0.062 * behaviour.tpot * (0.6 + 0.5 * load) * noise
    ttft = 0.35 * exp(2.2 * load) / noise
    e2e = ttft + tpot * case.output_tokens
    attainment = 1.0 / (1.0 + exp(9.0 * (load - 0.95)))
    rps = tok_s / case.output_tokens
    return Metrics(
        duration_s=80.0, completed=400, failed=0, unfinished=0, request_throughput_rps=rps,
        output_throughput_tok_s=tok_s, total_throughput_tok_s=tok_s + 402.0 * rps,
        goodput_rps=rps * attainment, slo_attainment=attainment, ttft_s=_quantiles(ttft),
        tpot_s=_quantiles(tpot), itl_s=_quantiles(tpot * 0.98), e2e_s=_quantiles(e2e),
        latency_per_token_s=_quantiles(e2e / case.output_tokens),
    )  # fmt: skip


def _quantiles(p50: float) -> Quantiles:
    return Quantiles(mean=1.1 * p50, p50=p50, p90=1.9 * p50, p99=None, n=400)


def _tiers(
    metrics: Metrics, behaviour: Behaviour
) -> dict[Literal["gpu", "cpu"], TierLatency | None]:
    p50 = metrics.tpot_s.p50 or 0.0
    cpu_rows = round(400 * behaviour.cpu_share)
    slowdown = NUM_LAYERS + 1 if behaviour.strategy == "deferred" else 1.3
    cpu = None
    if cpu_rows:
        cpu = TierLatency(
            requests=cpu_rows, ttft_s=metrics.ttft_s,
            tpot_s=_quantiles(p50 * slowdown), e2e_s=metrics.e2e_s,
            latency_per_token_s=metrics.latency_per_token_s,
        )  # fmt: skip
    gpu = TierLatency(
        requests=400 - cpu_rows,
        ttft_s=metrics.ttft_s,
        tpot_s=metrics.tpot_s,
        e2e_s=metrics.e2e_s,
        latency_per_token_s=metrics.latency_per_token_s,
    )
    return {"gpu": gpu if cpu_rows < 400 else None, "cpu": cpu}


def _decisions(behaviour: Behaviour) -> dict[str, int]:
    if behaviour.strategy == "gpu_only":
        return {"gpu_only": 1500}
    return {"gpu_only": 400, behaviour.strategy: 1100}


def _idle(behaviour: Behaviour, idle: float) -> dict[str, float]:
    waiting = 0.6 * idle if behaviour.cpu_share else 0.0
    return {
        "cpu_attention": waiting,
        "copy": 0.1 * idle,
        "scheduling": 0.1 * idle,
        "no_work": 0.8 * idle - waiting,
    }


def _cdfs(metrics: Metrics) -> dict[str, tuple[float, ...]]:
    shape = [exp(0.5 * (q - 50) / 25) for q in range(0, 101, 2)]
    sources = {"ttft_s": metrics.ttft_s, "tpot_s": metrics.tpot_s, "e2e_s": metrics.e2e_s}
    return {name: tuple((q.p50 or 0.0) * f for f in shape) for name, q in sources.items()}


def _series(behaviour: Behaviour, metrics: Metrics, rng: np.random.Generator) -> Series:
    count = 60
    ramp = np.minimum(np.arange(count) / 8.0, 1.0)
    rate = metrics.output_throughput_tok_s * ramp * np.exp(rng.normal(0.0, 0.05, count))
    share = np.clip(ramp - 0.25 + rng.normal(0.0, 0.03, count), 0.0, 1.0)
    shares = {"gpu_only": tuple([1.0] * count)}
    if behaviour.strategy != "gpu_only":
        shares = {
            "gpu_only": tuple((1.0 - share).tolist()),
            behaviour.strategy: tuple(share.tolist()),
        }
    return Series(
        t_s=tuple((np.arange(count) * 2.0).tolist()),
        gpu_rows=tuple((7.0 * ramp).tolist()),
        cpu_resident=tuple((400.0 * behaviour.cpu_share * ramp).tolist()),
        waiting=tuple((40.0 * (1.0 - ramp)).tolist()),
        output_tok_s=tuple(rate.tolist()),
        strategy_share=shares,
    )


def _timeline(behaviour: Behaviour) -> Timeline:
    spans = tuple(_spans(behaviour))
    is_deferred = behaviour.strategy == "deferred"
    return Timeline(
        strategy=behaviour.strategy,
        start_s=30.0,
        step_s=max(s.end_s for s in spans),
        gpu_rows=7,
        in_layer_rows=40 if behaviour.strategy == "two_batch" else 0,
        deferred_rows=200 if is_deferred else 0,
        prefill_tokens=0,
        spans=spans,
    )


def _steps(behaviour: Behaviour) -> tuple[StepTrace, ...]:
    """Every eighth computes a prompt, on the GPU alone."""
    is_deferred = behaviour.strategy == "deferred"
    return tuple(
        StepTrace(
            step=400 + index,
            start_s=30.0 + 0.07 * index,
            step_s=0.4 if index % 8 == 0 else 0.065,
            strategy="gpu_only" if index % 8 == 0 else behaviour.strategy,
            prefill_tokens=390 if index % 8 == 0 else 0,
            gpu_rows=7 - index % 2,
            in_layer_rows=0 if is_deferred or index % 8 == 0 else round(40 * behaviour.cpu_share),
            deferred_rows=200 if is_deferred and index % 8 else 0,
        )
        for index in range(200)
    )


def _decision_log() -> tuple[Decision, ...]:
    """More than a chart shows; the third candidate is always too slow."""
    return tuple(
        Decision(
            step=10 * index,
            start_s=0.7 * index,
            chosen=index % 2,
            reason="more tokens/s" if index % 2 else "keeps the TPOT target",
            candidates=tuple(_prediction(place, 90.0 + place * 15 + index) for place in range(3)),
        )
        for index in range(100)
    )


def _prediction(place: int, rate: float) -> Prediction:
    strategy = ("gpu_only", "two_batch", "deferred")[place]
    return Prediction(
        plan=f"{strategy} with {place} rows", strategy=strategy, prefill_tokens=0,
        in_layer_rows=place, deferred_rows=0, step_s=0.07, rate_tok_s=rate, gain_tokens=rate - 90,
        tpot_s=0.07 if place < 2 else 2.0, is_within_targets=place < 2,
    )  # fmt: skip


def _sweeps(case: Case, variants: Sequence[str], seeds: int) -> Iterator[Sweep]:
    """Starved GPUs gain most; slow CPUs and large GPUs lose."""
    for parameters, grid in (
        (("gpu_kv_tokens",), [(864.0,), (3_008.0,), (12_000.0,)]),
        (("cpu_attention_gbps",), [(6.0,), (18.0,), (60.0,)]),
        (
            ("gpu_kv_tokens", "cpu_attention_gbps"),
            [(kv, gbps) for kv in (864.0, 3_008.0, 12_000.0) for gbps in (6.0, 18.0, 60.0)],
        ),
    ):
        nominal = {"gpu_kv_tokens": float(case.gpu_kv_tokens), "cpu_attention_gbps": 18.0}
        yield Sweep(
            scenario=case.name,
            parameters=parameters,
            baseline="gpu-only",
            num_requests=1600,
            nominal=tuple(nominal[name] for name in parameters),
            points=tuple(
                _sweep_point(
                    case, name, values, nominal | dict(zip(parameters, values, strict=True)), seeds
                )
                for values in grid
                for name in variants
            ),
        )


def _sweep_point(
    case: Case, name: str, values: tuple[float, ...], at: dict[str, float], seeds: int
) -> SweepPoint:
    behaviour = BEHAVIOURS[name]
    starved = (case.gpu_kv_tokens / at["gpu_kv_tokens"]) ** 0.4
    gain = 0.4 * behaviour.cpu_share * starved * at["cpu_attention_gbps"] / 18
    ratio = behaviour.throughput if behaviour.cpu_share == 0 else (1 + gain) * 0.9
    is_baseline = name == "gpu-only"
    low, high = (None, None) if seeds == 1 or is_baseline else (0.97 * ratio, 1.03 * ratio)
    return SweepPoint(
        values=values, variant=name, output_throughput_tok_s=case.gpu_only_tok_s * ratio / starved,
        gpu_kv_tokens=int(at["gpu_kv_tokens"]), cpu_kv_tokens=300_000, tpot_p50_s=0.07, n=seeds,
        is_steady=True, ratio=None if is_baseline else ratio, ci_low=low, ci_high=high,
        verdict=None if is_baseline else _verdict("output_throughput_tok_s", low, high),
    )  # fmt: skip


def _spans(behaviour: Behaviour) -> Iterator[Span]:
    linear, attention, copy = 1.7e-3, 0.23e-3, 0.12e-3
    passes = 2 if behaviour.strategy == "two_batch" else 1
    now = 0.3e-3
    yield Span(lane="host", kind="schedule", group="", layer=None, rows=7, start_s=0.0, end_s=now)
    for layer in range(NUM_LAYERS):
        start = now
        for group in "AB"[:passes]:
            yield _span("gpu", "launch", group, layer, now, now + linear)
            now += linear
        yield _span("gpu", "attn_gpu", "A", layer, now, now + attention)
        now += attention
        if behaviour.cpu_share:
            yield _span("d2h", "send", "B", layer, start, start + copy)
            yield _span("cpu", "attn_cpu", "B", layer, start + copy, now - copy)
            yield _span("h2d", "recv", "B", layer, now - copy, now)
    yield _span("gpu", "head", "", None, now, now + 2e-3)


def _span(lane: str, kind: str, group: str, layer: int | None, start: float, end: float) -> Span:
    return Span(lane=lane, kind=kind, group=group, layer=layer, rows=7, start_s=start, end_s=end)


def _value(run: Run, metric: str) -> float:
    if metric in MORE_IS_BETTER:
        return float(getattr(run.metrics, metric))
    tier, _, of_tier = metric.rpartition("_tier_")
    holder = run.latency_by_tier["cpu"] if tier == "cpu" else run.metrics  # as the GPU tier
    latency, _, percentile = of_tier.removesuffix("_s").rpartition("_")
    return float(getattr(getattr(holder, f"{latency}_s"), percentile))


def _comparisons(runs: Sequence[Run]) -> Iterator[Comparison]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.setting, run.variant), []).append(run)
    for (setting, variant), candidates in groups.items():
        baselines = groups.get((setting, "gpu-only"))
        if variant == "gpu-only" or baselines is None:
            continue
        tiers = candidates[0].latency_by_tier
        served = [""] if tiers["cpu"] is None else ["", *(name for name in tiers if tiers[name])]
        for metric in METRICS:
            if metric.rpartition("_tier_")[0] in served:
                yield _comparison(setting, variant, metric, candidates, baselines)


def _comparison(
    setting: str, variant: str, metric: str, candidates: list[Run], baselines: list[Run]
) -> Comparison:
    pairs = zip(candidates, baselines, strict=True)
    reference = metric.rpartition("_tier_")[2]  # of all requests of the baseline
    logs = [log(_value(a, metric) / _value(b, reference)) for a, b in pairs]
    mean, n = sum(logs) / len(logs), len(logs)
    low = high = None
    if n > 1:
        spread = sqrt(sum((x - mean) ** 2 for x in logs) / (n - 1))
        half = T_975[n] * spread / sqrt(n)
        low, high = exp(mean - half), exp(mean + half)
    return Comparison(
        setting=setting, baseline="gpu-only", candidate=variant, metric=metric,
        ratio=exp(mean), ci_low=low, ci_high=high, n=n, verdict=_verdict(metric, low, high),
    )  # fmt: skip


def _verdict(metric: str, low: float | None, high: float | None) -> Outcome:
    if low is None or high is None or low <= 1.0 <= high:
        return "no_significant_difference"
    return "better" if (low > 1.0) == (metric in MORE_IS_BETTER) else "worse"


def _environment() -> Environment:
    return Environment(
        created_at="2026-01-02T03:04:05Z", python="3.11.7", platform="Linux-x86_64",
        cpu_model="Example CPU", logical_cpus=2, packages={"numpy": "2.4.6", "plotly": "7.1.0"},
        git_commit="0123abc", is_git_dirty=False, wall_s=41.0, simulated_s=41_234.5,
    )  # fmt: skip
