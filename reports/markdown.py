"""The report as GitHub-flavoured Markdown, short enough for a CI job summary."""

import re
from collections.abc import Iterable, Iterator

from apexbench.reports.basis import basis
from apexbench.reports.outcome import Outcome, Scenario, index
from apexbench.reports.panels import Table
from apexbench.reports.prose import Name, Sentence
from apexbench.reports.summary import latency_note, latency_table, saturation_note, saturation_table
from apexbench.reports.sweep_digest import sweep_note, sweep_table, sweeps_of
from apexbench.reports.verdicts import Verdict, verdicts, where_hybrid_loses
from apexbench.result import Result

_MARKS = {"win": "✅", "loss": "❌", "unclear": "⚖️"}
_LINE_BREAKS = re.compile(r"[\r\n\t\v\f\x1c-\x1e\x85\u2028\u2029]+")
_SPECIAL = "\\`*_{}[]<>#|~&$@"  # what could start mark-up, a mention or a formula


def render(result: Result) -> str:
    """Badge, verdicts, losses, tables and sweeps per scenario, warnings and the command."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    outcome, found = index(result), basis(result)
    yield "## apexbench: should decode attention be shared with the CPU?"
    yield ""
    if found.alarm:
        yield from (f"> **{_text(found.alarm)}**", "")
    yield f"**{_text(found.badge)}** · {_text(found.text)}"
    if not outcome.scenarios:
        yield "\nThe result has no settings: nothing to compare."
    for scenario, verdict in zip(outcome.scenarios, verdicts(result), strict=True):
        yield ""
        yield from _verdict(verdict)
        table = saturation_table(outcome, scenario)
        if table.rows:
            yield from ("", *_table(table), "", _text(saturation_note(outcome, scenario)))
        yield from _latencies(outcome, scenario, verdict.candidate)
        for sweep in sweeps_of(outcome, scenario):
            yield from (
                "",
                _text(sweep_note(outcome, sweep)),
                "",
                *_table(sweep_table(outcome, sweep)),
            )
    yield from ("", "### Where hybrid loses", "", _sentence(where_hybrid_loses(result).sentence))
    yield from _warnings(result.warnings)
    yield from ("", f"Command: {_code(result.command)}")


def _latencies(outcome: Outcome, scenario: Scenario, candidate: str | None) -> Iterator[str]:
    """Of the hybrid that the verdict speaks of; the HTML report has those of every policy."""
    table = latency_table(outcome, scenario, candidate) if candidate else None
    if candidate and table and table.rows:
        yield from ("", _text(latency_note(candidate)), "", *_table(table))


def _verdict(verdict: Verdict) -> Iterator[str]:
    yield f"### {_MARKS[verdict.tone]} {_text(verdict.scenario)}: {_text(verdict.label)}"
    yield ""
    yield " ".join(_sentence(sentence) for sentence in verdict.sentences)
    if verdict.cautions:
        yield ""
    for caution in verdict.cautions:
        yield f"- **{_text(caution.flag)}**: {_text(caution.text)}"


def _warnings(warnings: Iterable[str]) -> Iterator[str]:
    listed = [f"- {_text(warning)}" for warning in warnings]
    if listed:
        yield from ("", "### Warnings", "", *listed)


def _sentence(sentence: Sentence) -> str:
    return "".join(
        f"**{_text(part.text)}**"
        if isinstance(part, Name)
        else _escaped(part if isinstance(part, str) else part.text)
        for part in sentence.parts
    )


def _table(table: Table) -> Iterator[str]:
    yield _row(map(_text, table.columns))
    yield _row("---:" if i in table.numeric else "---" for i in range(len(table.columns)))
    for row in table.rows:
        yield _row(_text(cell) for cell in row)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """A text from the document on one line, shown literally."""
    return _escaped(_LINE_BREAKS.sub(" ", text))


def _escaped(text: str) -> str:
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


def _code(text: str) -> str:
    """A code span that the text cannot end."""
    flat = _LINE_BREAKS.sub(" ", text)
    fence = "`"
    while fence in flat:
        fence += "`"
    return f"{fence} {flat} {fence}"
