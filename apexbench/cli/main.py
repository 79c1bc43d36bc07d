"""The `apexbench` command: composes the sub-commands; each lives in a module of its own."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

import apexbench
from apexbench.cli.exits import guard

# Command -> module that holds it, in the order of --help. A module offers `app` (a group) or a
# function named like the command.
COMMANDS = {
    "compare": "apexbench.cli.compare",
    "predict": "apexbench.cli.predict",
    "list": "apexbench.cli.list_",
    "trace": "apexbench.cli.trace",
    "report": "apexbench.cli.report",
    "doctor": "apexbench.cli.doctor",
}


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    return guard(lambda: build(arguments)(list(arguments), "apexbench", standalone_mode=False))


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for this command line; only the module of the named command is imported."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Should decode attention be shared with the CPU on this GPU, and what does it buy?",
    )
    app.callback(invoke_without_command=True)(_options)
    named = next((word for word in arguments if not word.startswith("-")), None)
    for name in [named] if named in COMMANDS else COMMANDS:
        _add(app, name)
    return app


def _add(app: typer.Typer, name: str) -> None:
    module = import_module(COMMANDS[name])
    group = getattr(module, "app", None)
    if group is not None:
        app.add_typer(group, name=name)
    else:
        app.command(name)(getattr(module, module.__name__.rsplit(".", 1)[-1]))


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"apexbench {apexbench.__version__}")
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
