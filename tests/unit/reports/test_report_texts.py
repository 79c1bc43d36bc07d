"""The report on a terminal and as Markdown."""

import io
from types import ModuleType
from typing import Literal

import pytest
from rich.console import Console

from apexbench.reports import markdown, terminal
from apexbench.reports.verdicts import verdicts, where_hybrid_loses
from apexbench.result import Result

DOCUMENTS = ("build", "empty", "zero_successes", "hostile")


def printed(result: Result, width: int = 80, color: bool = False) -> str:
    out = io.StringIO()
    system: Literal["truecolor"] | None = "truecolor" if color else None
    terminal.render(result, Console(file=out, width=width, color_system=system))
    return out.getvalue()


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_terminal_fits_80_columns(synthetic: ModuleType, document: str) -> None:
    text = printed(getattr(synthetic, document)())
    assert max(len(line) for line in text.splitlines()) <= 80


def test_terminal_says_what_the_verdicts_say(synthetic: ModuleType) -> None:
    result = synthetic.build()
    text = flat(printed(result))
    for verdict in verdicts(result):
        assert verdict.label in text
        for sentence in verdict.sentences:
            assert flat(sentence.text) in text
    assert flat(where_hybrid_loses(result).sentence.text) in text
    assert "SIMULATED" in text
    assert f"warning: {result.warnings[0]}" in text


def test_terminal_keeps_policy_names_whole_at_80_columns(synthetic: ModuleType) -> None:
    lines = printed(synthetic.build(cases=synthetic.CASES[:1])).splitlines()
    rows = [line for line in lines if line.startswith("static:two_batch ")]
    assert len(rows) == 1
    assert rows[0].rstrip().endswith("yes")


def test_terminal_has_no_escapes_without_colour(synthetic: ModuleType) -> None:
    assert "\x1b" not in printed(synthetic.build(seeds=1))
    assert "\x1b" in printed(synthetic.build(seeds=1), color=True)


def test_a_name_cannot_control_the_terminal(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    evil = result.model_copy(update={"warnings": ("\x1b[2Jgone",)})
    assert "\x1b" not in printed(evil)
    assert "[2Jgone" in printed(evil)


def test_many_warnings_are_counted_not_listed(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    many = result.model_copy(update={"warnings": tuple(f"number {i}" for i in range(20))})
    text = printed(many)
    assert text.count("warning: ") == 6
    assert "and 14 more warnings" in text


def test_markdown_says_what_the_verdicts_say(synthetic: ModuleType) -> None:
    result = synthetic.build()
    text = markdown.render(result).replace("**", "").replace("\\", "")
    for verdict in verdicts(result):
        assert verdict.label in text
        for sentence in verdict.sentences:
            assert sentence.text in text
    assert where_hybrid_loses(result).sentence.text in text
    assert result.command in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_markdown_tables_have_equal_columns(synthetic: ModuleType, document: str) -> None:
    lines = markdown.render(getattr(synthetic, document)()).splitlines()
    rows = [line.replace("\\|", "") for line in lines if line.startswith("|")]
    assert {row.count("|") for row in rows} <= {10}


def test_markdown_takes_names_literally(synthetic: ModuleType) -> None:
    text = markdown.render(synthetic.hostile())
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("Command:"))
    assert "<script" not in outside_code.replace("\\<", "")
    assert text.splitlines()[-1].startswith("Command: `` ")


def test_an_empty_document_is_said(synthetic: ModuleType) -> None:
    bare = synthetic.empty().model_copy(update={"settings": ()})
    assert "nothing to compare" in markdown.render(bare)
    assert "nothing to compare" in printed(bare)
