"""`apexbench list`: the names other commands accept, with the figures that tell them apart."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from apexbench.errors import unknown_name

Row = dict[str, str | int | float | bool | list[str] | None]
BILLION = 1e9
BYTES_PER_KIB = 1024
# Figures in tables carry this many significant digits; JSON has all of them.
TABLE_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows with their units in the keys; `columns` are the keys a table shows, with headings."""

    rows: list[Row]
    columns: dict[str, str]
    note: str


def list_(
    kind: Annotated[
        str, typer.Argument(metavar="gpus|hosts|models|policies|workloads", help="What to list.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show the names that other commands accept."""
    if kind not in KINDS:
        raise unknown_name("list", kind, KINDS)
    listing = KINDS[kind]()
    if as_json:
        typer.echo(json.dumps(listing.rows, indent=1, allow_nan=False))
    else:
        _print(listing)


def gpus() -> Listing:
    """Built-in GPUs; bandwidth and speed as on the datasheet."""
    from apexbench.engine.hardware import list_gpus

    rows: list[Row] = [
        {
            "name": gpu.name,
            "title": gpu.title,
            "memory_gib": gpu.memory_gib.value,
            "dram_gb_per_s": gpu.dram_gb_per_s.value,
            "peak_tflops": gpu.peak_tflops.value,
            "default_host": gpu.default_host or None,
        }
        for gpu in list_gpus()
    ]
    columns = {
        "name": "gpu",
        "memory_gib": "usable GiB",
        "dram_gb_per_s": "GB/s",
        "peak_tflops": "TFLOP/s",
        "default_host": "default host",
    }
    return Listing(rows, columns, "A GPU without a default host needs --host.")


def hosts() -> Listing:
    """Built-in hosts; `*_kernel_gb_per_s` is what each CPU attention kernel reads of fp16 KV.

    For models with one query head per KV head, with the default number of threads.
    """
    from apexbench.engine.hardware import list_cpu_kernels, list_hosts

    kernels = list_cpu_kernels()
    rows: list[Row] = []
    for host in list_hosts():
        price = host.price_usd_per_hour
        row: Row = {
            "name": host.name,
            "title": host.title,
            "cores": int(host.cores.value),
            "memory_gib": host.memory_gib.value,
            "dram_peak_gb_per_s": host.dram_peak_gb_per_s.value,
        }
        for kernel in kernels:
            speed = kernel.bytes_per_s(host, host.default_threads, is_gqa=False, dtype="fp16")
            row[f"{kernel.name}_kernel_gb_per_s"] = round(speed / BILLION, 1)
        rows.append(row | {"price_usd_per_hour": price.value if price else None})
    columns = {
        "name": "host",
        "cores": "cores",
        "memory_gib": "GiB",
        "dram_peak_gb_per_s": "peak GB/s",
        **{f"{kernel.name}_kernel_gb_per_s": kernel.name for kernel in kernels},
        "price_usd_per_hour": "$/h",
    }
    names = ", ".join(kernel.name for kernel in kernels)
    return Listing(rows, columns, f"{names}: GB/s of KV that this --cpu-kernel reads there.")


def models() -> Listing:
    """Built-in model shapes."""
    from apexbench.engine.models import list_models

    rows: list[Row] = [
        {
            "name": model.name,
            "layers": model.num_layers,
            "parameters_1e9": round(model.parameter_count / BILLION, 2),
            "kv_heads": model.num_kv_heads,
            "kv_kib_per_token": model.kv_bytes_per_token("fp16") / BYTES_PER_KIB,
            "max_context": model.max_position,
        }
        for model in list_models()
    ]
    columns = {
        "name": "model",
        "layers": "layers",
        "parameters_1e9": "billion parameters",
        "kv_heads": "KV heads",
        "kv_kib_per_token": "KV KiB/token",
        "max_context": "context",
    }
    note = "A path to a Hugging Face config.json works as well. KV in fp16."
    return Listing(rows, columns, note)


def policies() -> Listing:
    """Built-in policies with the strategies they may choose and the thresholds they listen to."""
    from apexbench.engine.policies.registry import list_policies

    rows: list[Row] = [
        {
            "name": policy.name,
            "strategies": list(policy.strategies),
            "summary": policy.summary,
            "thresholds": list(policy.thresholds),
        }
        for policy in list_policies()
    ]
    columns = {"name": "policy", "strategies": "strategies", "summary": "what it does"}
    note = (
        "NAME+int4 or NAME+int8 runs a policy with other weights, MODULE:CLASS one of your own "
        "(docs/policies.md); --json adds the thresholds."
    )
    return Listing(rows, columns, note)


def workloads() -> Listing:
    """Presets with their median lengths, then the forms that take numbers or a file."""
    from apexbench.workloads.presets import PRESETS
    from apexbench.workloads.sources import FORMS

    rows: list[Row] = [
        {
            "name": preset.name,
            "prompt_p50": preset.lengths.prompt.median,
            "output_p50": preset.lengths.output.median,
            "is_approximated": preset.is_approximated,
            "source": preset.citation,
        }
        for preset in PRESETS.values()
    ]
    blank: Row = dict.fromkeys(rows[0])
    rows += [blank | {"name": name, "source": text} for name, text in FORMS.items()]
    columns = {
        "name": "workload",
        "prompt_p50": "prompt",
        "output_p50": "output",
        "is_approximated": "approximated",
        "source": "source",
    }
    return Listing(rows, columns, "prompt, output: median tokens.")


def _print(listing: Listing) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, (key, heading) in enumerate(listing.columns.items()):
        is_number = type(listing.rows[0][key]) in (int, float)  # a bool is an int, but not here
        justify: Literal["left", "right"] = "right" if is_number else "left"
        table.add_column(heading, justify=justify, no_wrap=index == 0, overflow="fold")
    for row in listing.rows:
        table.add_row(*(Text(_cell(row[key])) for key in listing.columns))
    console = Console()
    console.print(table)
    console.print(Text(listing.note, style="dim"))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{TABLE_DIGITS}g}" if value < 10**TABLE_DIGITS else f"{value:.0f}"
    return ", ".join(value) if isinstance(value, list) else str(value)


KINDS: dict[str, Callable[[], Listing]] = {
    "gpus": gpus,
    "hosts": hosts,
    "models": models,
    "policies": policies,
    "workloads": workloads,
}
