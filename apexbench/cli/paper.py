"""`apexbench paper`: holds a paper's claims against the simulator and writes one Markdown page."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apexbench.cli.exits import ExitCode
from apexbench.cli.interrupts import StopRequest, deferred
from apexbench.cli.options import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apexbench.cli.progress import Bars
    from apexbench.compare.pool import Progress
    from apexbench.paper.studies import Study
    from apexbench.result import Result


def paper(
    config: Annotated[Path, typer.Option(help="Claims, runs and frozen hashes (TOML).")],
    out: Annotated[Path, typer.Option(help="The Markdown page to write.")],
    jobs: Annotated[Text, typer.Option(help="Parallel processes; results do not change.")] = None,
) -> int:
    """Run what the config asks for and write the page; nothing is written if a run fails."""
    from apexbench.files import check_target, write_text_atomic
    from apexbench.paper.evidence import Evidence
    from apexbench.paper.freeze import examine
    from apexbench.paper.page import Page
    from apexbench.paper.plan import load
    from apexbench.paper.studies import prepare

    plan = load(config)
    studies = prepare(plan, jobs)
    check_target(out)
    with deferred() as stop:
        try:
            evidence = Evidence(_run(studies, stop))
        except KeyboardInterrupt:
            print(f"apexbench: interrupted; {out} is as it was", file=sys.stderr)
            return ExitCode.INTERRUPTED
        page = Page(plan, studies, evidence, examine(plan), str(out))
        write_text_atomic(out, page.text())
    typer.echo(f"wrote {out}")
    return ExitCode.OK


def _run(studies: "Sequence[Study]", stop: StopRequest) -> "dict[str, Result]":
    """With a bar per phase of the run in progress."""
    from rich.console import Console

    from apexbench.cli.progress import Bars
    from apexbench.paper.studies import in_turn

    console = Console(stderr=True, highlight=False)
    results = {}
    for title, study in in_turn(studies):
        with Bars(console, is_shown=sys.stderr.isatty()) as bars:
            results[study.spec.id] = study.run(stop.watching(partial(_phase, bars, title)))
    return results


def _phase(bars: "Bars", title: str, name: str) -> "Progress":
    return bars.phase(f"{title} {name}")
