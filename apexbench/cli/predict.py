"""`apexbench predict`: one step op by op, or the steady state of every strategy; no traffic."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.cli.options import (
    ConfigFile,
    CpuKernel,
    CpuThreads,
    Gpu,
    GpuKvTokens,
    GpuMemoryUtilization,
    Host,
    Model,
    Text,
    Weights,
)
from apexbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from apexbench.config import CompareConfig
    from apexbench.engine.predict.document import Json
    from apexbench.engine.predict.machine import Machine

STDOUT = "-"
# Options of the deployment, which compare has too and which the environment and the file can set.
_SHARED = ("gpu", "host", "model", "weights", "cpu_kernel", "cpu_threads", "gpu_kv_tokens",
           "gpu_memory_utilization", "slo")  # fmt: skip
_OF_STEP = ("rows", "kv_tokens", "prefill_tokens", "cpu_rows", "cpu_kv_tokens")
_OF_STEADY = ("context", "gpu_rows", "host_memory_gib", "cohorts")


def predict(
    gpu: Gpu = None,
    host: Host = None,
    model: Model = None,
    weights: Weights = None,
    cpu_kernel: CpuKernel = None,
    cpu_threads: CpuThreads = None,
    gpu_kv_tokens: GpuKvTokens = None,
    gpu_memory_utilization: GpuMemoryUtilization = None,
    rows: Annotated[int | None, typer.Option(help="GPU decode rows of the step.")] = None,
    kv_tokens: Annotated[
        int | None, typer.Option(help="Their contexts, summed over the rows.")
    ] = None,
    prefill_tokens: Annotated[int | None, typer.Option(help="New prompt tokens.")] = None,
    cpu_rows: Annotated[
        int | None, typer.Option(help="Rows whose attention the CPU does in the same layer.")
    ] = None,
    cpu_kv_tokens: Annotated[
        int | None, typer.Option(help="Their contexts, summed over the rows.")
    ] = None,
    steady: Annotated[
        bool, typer.Option("--steady", help="Decode-only steady state of every strategy.")
    ] = False,
    context: Annotated[int | None, typer.Option(help="Steady: tokens per row.")] = None,
    gpu_rows: Annotated[
        int | None, typer.Option(help="Steady: GPU decode rows (default: as many as fit).")
    ] = None,
    cpu_attention_gbps: Annotated[
        float | None, typer.Option(help="KV read by CPU attention, GB/s (default: the kernel's).")
    ] = None,
    host_memory_gib: Annotated[
        float | None, typer.Option(help="Steady: host memory for the KV cache, GiB.")
    ] = None,
    cohorts: Annotated[
        int | None, typer.Option(help="Steady: deferred cohorts (default: layers + 1).")
    ] = None,
    slo: Annotated[
        list[str] | None, typer.Option(help="Steady: tpot=SECONDS bounds every row.")
    ] = None,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="No latencies, launches or host time.")
    ] = False,
    config: ConfigFile = None,
    json: Annotated[Text, typer.Option(metavar="PATH|-", help="Everything, as JSON.")] = None,
    html: Annotated[Text, typer.Option(metavar="PATH", help="Charts, as one HTML file.")] = None,
) -> None:
    """Predict one step op by op, or with --steady what every strategy could reach at best."""
    options = dict(locals())
    from rich.console import Console

    _check_flags(options)
    _check_positive("--cpu-attention-gbps", cpu_attention_gbps)
    _check_positive("--host-memory-gib", host_memory_gib)
    resolved = _resolve(options, config)
    _check_targets(json, html)
    machine = _machine(resolved, cpu_attention_gbps, is_ideal=ideal)
    if steady:
        document, show = _steady(machine, resolved, options)
    else:
        document, show = _step(machine, options)
    whole = _whole(machine, document, is_ideal=ideal)
    show(Console(stderr=json == STDOUT, highlight=False))
    _write(whole, json, html)


def _check_flags(options: "Mapping[str, object]") -> None:
    """Flags of the other form would be ignored silently."""
    is_steady = bool(options["steady"])
    if is_steady and options["context"] is None:
        raise UsageError("--steady needs --context, the tokens per row")
    others = _OF_STEP if is_steady else (*_OF_STEADY, "slo")
    for name in others:
        if options[name] not in (None, [], ()):
            flag = "--" + name.replace("_", "-")
            way = "is for a single step; with --steady use --context and --gpu-rows"
            raise UsageError(f"{flag} {way if is_steady else 'needs --steady'}")


def _check_positive(flag: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{flag} is {value:g}; expected a positive number")


def _resolve(options: "Mapping[str, object]", file: Path | None) -> "CompareConfig":
    """What predict shares with compare comes from the same places in the same order."""
    import os

    from apexbench import config

    found = config.locate(file, os.environ, Path.cwd())
    resolved = config.resolve({key: options[key] for key in _SHARED}, os.environ, found)
    for target in resolved.slo:
        if target != "tpot" and resolved.provenance[f"slo.{target}"] == "--slo":
            raise UsageError(f"--slo {target} needs traffic; predict knows tpot only")
    return resolved


def _machine(config: "CompareConfig", gbps: float | None, *, is_ideal: bool) -> "Machine":
    from apexbench.compare.scenarios import DEFAULT_GPU, DEFAULT_MODEL, DEFAULT_MODELS
    from apexbench.engine.deployment import deploy
    from apexbench.engine.predict.machine import Machine, ideal

    gpu = config.gpu or DEFAULT_GPU
    deployment = deploy(
        gpu=gpu,
        host=config.host,
        model=config.model or DEFAULT_MODELS.get(gpu.partition(":")[0], DEFAULT_MODEL),
        weights=config.weight_dtype,
        cpu_kernel=config.cpu_kernel,
        cpu_threads=config.cpu_threads,
        gpu_memory_utilization=config.gpu_memory_utilization,
        gpu_kv_tokens=config.gpu_kv_tokens,
    )
    machine = Machine(deployment, None if gbps is None else gbps * 1e9)
    return ideal(machine) if is_ideal else machine


def _step(
    machine: "Machine", options: "Mapping[str, object]"
) -> "tuple[Json, Callable[[Console], None]]":
    from apexbench.cli.predict_tables import print_prediction
    from apexbench.engine.predict.document import layer_document
    from apexbench.engine.predict.layer import predict as predict_mix
    from apexbench.engine.predict.mix import Mix

    counts = {name: value for name in _OF_STEP if isinstance(value := options[name], int)}
    prediction = predict_mix(machine, Mix(**counts))
    capacity = machine.deployment.capacity(False, prediction.mix.linear_rows, 1).gpu_kv_tokens
    document = layer_document(prediction) | {"gpu_kv_tokens": capacity}
    return document, lambda console: print_prediction(prediction, capacity, console)


def _steady(
    machine: "Machine", config: "CompareConfig", options: "Mapping[str, object]"
) -> "tuple[Json, Callable[[Console], None]]":
    from apexbench.cli.predict_tables import print_steady
    from apexbench.engine.predict.document import steady_document
    from apexbench.engine.predict.steady import ask, solve

    given = {name: options[name] for name in _OF_STEADY}
    states = solve(ask(machine, **given, tpot_s=config.slo.get("tpot")))  # type: ignore[arg-type]
    return steady_document(states), lambda console: print_steady(states, console)


def _whole(machine: "Machine", document: "Json", *, is_ideal: bool) -> "Json":
    from apexbench import __version__
    from apexbench.engine.predict.document import header

    return {**header(machine, __version__), "is_ideal": is_ideal, **document}


def _check_targets(json: str | None, html: str | None) -> None:
    """Before the work: steady states take a while."""
    from apexbench.files import check_target

    if html == STDOUT:
        raise UsageError("--html - is no file; only --json can go to standard output")
    for target in (json, html):
        if target is not None and target != STDOUT:
            check_target(target)


def _write(document: "Json", json: str | None, html: str | None) -> None:
    from json import dumps

    from apexbench.files import write_text_atomic

    if html is not None:
        from apexbench.reports.predict_page import render

        write_text_atomic(html, render(document))
    text = dumps(document, indent=2, allow_nan=False) + "\n"
    if json == STDOUT:
        typer.echo(text, nl=False)
    elif json is not None:
        write_text_atomic(json, text)
