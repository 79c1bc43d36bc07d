"""The report on a terminal and as Markdown."""

import io
from itertools import groupby
from types import ModuleType
from typing import Literal

import pytest
from rich.console import Console

from apexbench.reports import markdown, terminal
from apexbench.reports.outcome import index
from apexbench.reports.sweep_digest import sweep_sentence
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
    assert rows[0].rstrip().endswith(" 3\u202f008")


def test_ten_policies_fit_80_columns_on_a_line_each(synthetic: ModuleType) -> None:
    names = tuple(synthetic.BEHAVIOURS)
    lines = printed(synthetic.build(cases=synthetic.CASES[:1], variants=names)).splitlines()
    assert len(names) == 10
    assert max(len(line) for line in lines) <= 80
    rows = [line for line in lines if line.rstrip().endswith((" 3\u202f008", " 12\u202f032"))]
    assert [row.split()[0] for row in rows] == list(names)


def test_policies_with_short_windows_are_marked(synthetic: ModuleType) -> None:
    meaning = "\u2020: some window is too short to be steady."
    steady, short = (
        flat(printed(synthetic.build(cases=[case], variants=("gpu-only", "apex"))))
        for case in synthetic.CASES[:2]
    )
    assert "\u2020" not in steady
    assert meaning in short
    assert short.count("\u2020") == 3
    text = markdown.render(synthetic.build(cases=synthetic.CASES[1:2], variants=("gpu-only",)))
    assert "\u2020 |" in text


def test_terminal_has_a_line_per_sweep(synthetic: ModuleType) -> None:
    result = synthetic.build()
    text = flat(printed(result))
    for sweep in result.sweeps:
        assert flat(sweep_sentence(index(result), sweep).text) in text


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
    for rows in tables_of(markdown.render(getattr(synthetic, document)())):
        assert len(rows) > 2
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1


def tables_of(text: str) -> list[list[str]]:
    groups = groupby(text.splitlines(), key=lambda line: line.startswith("|"))
    return [list(lines) for is_table, lines in groups if is_table]


def test_markdown_shows_the_latency_of_the_best_hybrid(synthetic: ModuleType) -> None:
    document = synthetic.build(cases=synthetic.CASES[:1])
    text = markdown.render(document)
    assert "Latency of static:deferred as a ratio to all requests of gpu-only" in text
    _, (head, _, *rows), *_ = tables_of(text)
    assert [row.split(" ")[1][:-1] for row in rows] == ["0.5", "0.8", "1", "1.2"]
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    found = next(
        c
        for c in document.comparisons
        if (c.setting, c.candidate) == ("t4-osc-1x", "static:deferred")
        and c.metric == "cpu_tier_tpot_p90_s"
    )
    cell = rows[2].strip("|").split("|")[columns.index("CPU-tier TPOT p90")]
    assert cell.strip().startswith(f"{found.ratio:.1f}")


def test_markdown_without_finite_rates_has_no_latency_table(synthetic: ModuleType) -> None:
    text = markdown.render(synthetic.build(cases=synthetic.CASES[:1], labels=("inf",)))
    assert "Latency of" not in text
    assert len(tables_of(text)) == 1 + 3  # the sweeps


def test_markdown_takes_names_literally(synthetic: ModuleType) -> None:
    text = markdown.render(synthetic.hostile())
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("Command:"))
    assert "<script" not in outside_code.replace("\\<", "")
    assert text.splitlines()[-1].startswith("Command: `` ")


def test_an_empty_document_is_said(synthetic: ModuleType) -> None:
    bare = synthetic.empty().model_copy(update={"settings": ()})
    assert "nothing to compare" in markdown.render(bare)
    assert "nothing to compare" in printed(bare)
