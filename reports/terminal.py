"""The report on a terminal: verdicts, a table and the sweeps per scenario, losses and warnings."""

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from apexbench.reports.basis import basis
from apexbench.reports.outcome import Outcome, Scenario, index
from apexbench.reports.prose import Name, Number, Sentence
from apexbench.reports.summary import saturation_note, saturation_table
from apexbench.reports.sweep_digest import sweep_sentence, sweeps_of
from apexbench.reports.verdicts import Verdict, verdicts, where_hybrid_loses
from apexbench.result import Result

# A name must not move the cursor or recolour the terminal.
_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\ufffd") | {ord("\n"): " "}
_MAX_WARNINGS = 6  # more would push the verdicts off the screen
_TONES = {"win": "green", "loss": "red", "unclear": "yellow"}


def render(result: Result, console: Console) -> None:
    """Write the report to the console, as wide as it is; colours follow the console."""
    outcome = index(result)
    found = basis(result)
    console.print(Text(found.badge, style="bold reverse"))
    if found.alarm:
        console.print(Text(_plain(found.alarm), style="bold red"))
    console.print(Text(_plain(found.text), style="dim"))
    if not outcome.scenarios:
        console.print(Text("The result has no settings: nothing to compare."))
    for scenario, verdict in zip(outcome.scenarios, verdicts(result), strict=True):
        console.print()
        _print_verdict(verdict, console)
        _print_table(outcome, scenario, console)
        for sweep in sweeps_of(outcome, scenario):
            console.print(_styled(sweep_sentence(outcome, sweep)))
    console.print()
    console.print(Text("Where hybrid loses", style="bold"))
    console.print(_styled(where_hybrid_loses(result).sentence))
    _print_warnings(result.warnings, console)


def _print_warnings(warnings: tuple[str, ...], console: Console) -> None:
    for warning in warnings[:_MAX_WARNINGS]:
        console.print(Text.assemble(("warning: ", "yellow"), _plain(warning)))
    others = len(warnings) - _MAX_WARNINGS
    if others > 0:
        console.print(Text(f"and {others} more warnings in the result document", style="yellow"))


def _print_verdict(verdict: Verdict, console: Console) -> None:
    tone = _TONES[verdict.tone]
    console.print(
        Text.assemble((_plain(verdict.scenario), "bold"), "  ", (verdict.label, f"bold {tone}"))
    )
    for sentence in verdict.sentences:
        console.print(_styled(sentence))
    for caution in verdict.cautions:
        console.print(Text.assemble((f"{caution.flag}: ", "yellow"), _plain(caution.text)))


def _print_table(outcome: Outcome, scenario: Scenario, console: Console) -> None:
    found = saturation_table(outcome, scenario)
    if not found.rows:
        return
    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for position, column in enumerate(found.columns):
        is_number = position in found.numeric
        heading = Text(column.replace(" ", "\n"))
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in found.rows:
        table.add_row(*(Text(_plain(cell)) for cell in row))
    console.print()
    console.print(table)
    console.print(Text(saturation_note(outcome, scenario), style="dim"))


def _styled(sentence: Sentence) -> Text:
    text = Text()
    for part in sentence.parts:
        if isinstance(part, Name):
            text.append(_plain(part.text), style="bold")
        elif isinstance(part, Number):
            text.append(part.text, style="cyan")
        else:
            text.append(_plain(part))
    return text


def _plain(text: str) -> str:
    return text.translate(_CONTROLS)
