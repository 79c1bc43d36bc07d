"""`apexbench report`: renders a finished result again; it measures and simulates nothing."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.errors import UsageError

if TYPE_CHECKING:
    from apexbench.result import Result

STDOUT = "-"


def report(
    result_file: Annotated[
        Path | None,
        typer.Argument(metavar="RESULT.json", help="The result, or the directory it is in."),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="PATH|-", help="Write a Markdown summary.")
    ] = None,
    perfetto: Annotated[
        Path | None, typer.Option(help="Write the step timelines as a Perfetto/Chrome trace.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the tables as CSV.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of result files.")
    ] = False,
) -> None:
    """Render a result again; without options, print its summary."""
    from apexbench import result as document

    if schema:
        typer.echo(document.json_schema(), nl=False)
        return
    if result_file is None:
        raise UsageError("report needs a result file: apexbench report out/result.json")
    path = result_file / "result.json" if result_file.is_dir() else result_file
    result = document.read(path)
    files = {"html": html, "markdown": markdown, "perfetto": perfetto}
    wanted = {name: target for name, target in files.items() if target is not None}
    if not wanted and csv is None:
        _print_summary(result)
    for name, target in wanted.items():
        _write(_render(name, result), target)
    if csv is not None:
        _write_tables(result, csv)


def _print_summary(result: "Result") -> None:
    from rich.console import Console

    from apexbench.reports import terminal

    terminal.render(result, Console())


def _render(name: str, result: "Result") -> str:
    """By module name, so that a Markdown summary does not wait for the charts to be imported."""
    text: str = import_module(f"apexbench.reports.{name}").render(result)
    return text


def _write(text: str, target: Path | str) -> None:
    from apexbench.files import write_text_atomic

    if target == STDOUT:
        typer.echo(text, nl=False)
    else:
        write_text_atomic(target, text)


def _write_tables(result: "Result", directory: Path) -> None:
    from apexbench.files import ensure_writable_dir, write_text_atomic
    from apexbench.reports import csv_tables

    ensure_writable_dir(directory)
    for name, text in csv_tables.tables(result).items():
        write_text_atomic(directory / name, text)
