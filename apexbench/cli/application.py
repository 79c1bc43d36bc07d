"""The typer application of one command line: its options and sub-commands; runs nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer
from typer.main import get_command

import apexbench


def build(commands: Mapping[str, str], arguments: Sequence[str]) -> Callable[..., object]:
    """The application for this command line, with everything imported that parsing needs.

    Of `commands` (name -> module) only the one that `arguments` name is imported.
    """
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help="Should decode attention be shared with the CPU on this GPU, and what does it buy?",
    )
    app.callback(invoke_without_command=True)(_options)
    named = next((word for word in arguments if not word.startswith("-")), "")
    for name in [named] if named in commands else commands:
        _add(app, name, commands[name])
    return get_command(app)


def _add(app: typer.Typer, name: str, path: str) -> None:
    module = import_module(path)
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
