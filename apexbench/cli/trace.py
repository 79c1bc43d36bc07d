"""`apexbench trace`: look at a trace file and convert it; runs nothing."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from apexbench.workloads.convert import Format
    from apexbench.workloads.describe import TraceFigures

app = typer.Typer(help="Look at a request trace, or convert it.", no_args_is_help=True)

TracePath = Annotated[Path, typer.Argument(help="CSV, JSON or JSONL file, also .gz.")]
MaxContext = Annotated[
    str | None,
    typer.Option(
        metavar="N[:drop|clip]",
        help="Leave out (drop) or cut (clip) requests of more than N tokens in all.",
    ),
]


@app.command()
def info(
    path: TracePath,
    max_context: MaxContext = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Counts, lengths, rate, burstiness, and what was dropped and why."""
    from dataclasses import asdict

    from apexbench.workloads.context import ContextLimit
    from apexbench.workloads.describe import QUANTILES, describe, limited
    from apexbench.workloads.readers import read_trace

    limit = ContextLimit.parse(max_context) if max_context is not None else None
    trace = read_trace(path)
    figures = describe(limited(trace, limit) if limit else trace)
    if as_json:
        document = asdict(figures) | {"quantile_levels": QUANTILES}
        typer.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    _print_figures(figures)


@app.command()
def convert(
    path: TracePath,
    out: Annotated[Path, typer.Option("--out", help="File to write; .gz compresses it.")],
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="csv|jsonl", help="Default: from the name of --out."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a trace with the columns arrival_s, prompt_tokens, output_tokens and hash_ids.

    Only JSONL holds hash_ids; estimated counts are written as such.
    """
    from apexbench.errors import UsageError
    from apexbench.files import write_bytes_atomic
    from apexbench.workloads.conversations import ESTIMATE
    from apexbench.workloads.convert import encode
    from apexbench.workloads.readers import read_trace

    chosen = _chosen_format(form, out)
    if out.exists() and not force:
        raise UsageError(f"'{out}' exists; pass --force to replace it, or name another file")
    trace = read_trace(path)
    write_bytes_atomic(out, encode(trace, chosen, is_compressed=out.suffix == ".gz"))
    typer.echo(f"wrote {len(trace):,} of {trace.num_rows:,} rows to {out} ({chosen})")
    for reason, count in trace.dropped:
        typer.echo(f"  {count:,} {reason}")
    if trace.is_approximated:
        typer.echo(f"  {ESTIMATE}, and named so in the columns")
    if trace.prefix_hashes is not None and chosen == "csv":
        typer.echo("  prefix hashes left out; write jsonl to keep them")


def _chosen_format(form: str | None, out: Path) -> "Format":
    from apexbench.errors import UsageError

    name = form or ("jsonl" if ".jsonl" in out.suffixes else "csv")
    if name == "csv":
        return "csv"
    if name == "jsonl":
        return "jsonl"
    raise UsageError(f"unknown trace format '{name}'; write csv or jsonl")


def _print_figures(figures: "TraceFigures") -> None:
    from rich.console import Console
    from rich.markup import escape

    from apexbench.workloads.conversations import ESTIMATE

    console = Console(highlight=False)
    console.print(f"[bold]{escape(figures.name)}[/bold]  {figures.format}")
    console.print(f"file sha256  {figures.sha256}")
    console.print(f"rows kept    {figures.num_kept:,} of {figures.num_rows:,}")
    for reason, count in figures.dropped.items():
        console.print(f"             {count:,} {reason}")
    console.print(f"arrivals     {_arrivals_line(figures)}", soft_wrap=True)
    if figures.is_approximated:
        console.print(f"approximated {ESTIMATE}")
    console.print(_length_table(figures))


def _arrivals_line(figures: "TraceFigures") -> str:
    if figures.span_s is None:
        return "none in this file (lengths only)"
    parts = [f"span {figures.span_s:,.1f} s"]
    if figures.mean_rate_rps is not None and figures.interarrival_cv is not None:
        parts.append(f"mean {figures.mean_rate_rps:.3g} requests/s")
        parts.append(f"interarrival CV {figures.interarrival_cv:.2f} (Poisson: 1)")
    if figures.peak_to_mean is not None:
        parts.append(f"busiest minute {figures.peak_to_mean:.2f}x the mean")
    return ", ".join(parts)


def _length_table(figures: "TraceFigures") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from apexbench.workloads.describe import QUANTILES

    # Ten columns of up to 6 digits and a comma fit 80 characters only without rules and padding.
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("tokens")
    for name in ("mean", *(_level_name(level) for level in QUANTILES)):
        table.add_column(name, justify="right")
    for name, lengths in (("prompt", figures.prompt_tokens), ("output", figures.output_tokens)):
        values = (lengths.mean, *lengths.quantiles)
        table.add_row(name, *(f"{value:,.0f}" for value in values))
    return table


def _level_name(level: float) -> str:
    return {0.0: "min", 1.0: "max"}.get(level, f"p{level * 100:g}")
