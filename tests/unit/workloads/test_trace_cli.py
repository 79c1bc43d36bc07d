"""`apexbench trace` as its group is called: what it prints, writes and refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from apexbench.cli.trace import app
from apexbench.errors import InputError, UsageError

Write = Callable[..., Path]
TEXT = "arrival_s,prompt_tokens,output_tokens\n0,300,4\n1,5,0\n4,7,6\n"


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    return result


def test_info_says_what_was_kept_and_dropped(write: Write) -> None:
    output = _run("info", write(TEXT)).output
    assert "2 of 3" in output
    assert "1 no output tokens" in output
    assert "span 4.0 s, mean 0.25 requests/s" in output


def test_info_as_json_holds_the_figures(write: Write) -> None:
    document = json.loads(_run("info", write(TEXT), "--max-context", "100:drop", "--json").output)
    assert document["num_kept"] == 1
    assert document["dropped"] == {"no output tokens": 1, "longer than max context": 1}
    assert document["mean_rate_rps"] is None
    assert len(document["quantile_levels"]) == len(document["prompt_tokens"]["quantiles"])


def test_info_of_lengths_alone_says_so(write: Write) -> None:
    assert "lengths only" in _run("info", write("isl,osl\n1,1\n")).output


def test_long_prompts_are_printed_in_full(write: Write) -> None:
    output = _run("info", write("isl,osl\n126195,1\n126195,2000\n")).output
    assert output.count("126,195") == 9


def test_convert_writes_once_and_again_only_by_force(write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    output = _run("convert", write(TEXT), "--out", out).output
    assert "wrote 2 of 3 rows" in output
    assert "1 no output tokens" in output
    written = out.read_text()
    assert json.loads(written.splitlines()[1]) == {
        "arrival_s": 4.0,
        "prompt_tokens": 7,
        "output_tokens": 6,
    }
    with pytest.raises(UsageError, match="exists; pass --force"):
        _run("convert", tmp_path / "t.csv", "--out", out)
    assert out.read_text() == written
    _run("convert", tmp_path / "t.csv", "--out", out, "--format", "csv", "--force")
    assert out.read_text().startswith("arrival_s,")


def test_convert_compresses_by_name(write: Write, tmp_path: Path) -> None:
    _run("convert", write(TEXT), "--out", tmp_path / "out.csv.gz")
    assert (tmp_path / "out.csv.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_convert_says_what_a_csv_cannot_hold(write: Write, tmp_path: Path) -> None:
    row = '{"timestamp": 0, "input_length": 9, "output_length": 4, "hash_ids": [1]}\n'
    path = write(row, "m.jsonl")
    assert "prefix hashes left out" in _run("convert", path, "--out", tmp_path / "o.csv").output
    assert "prefix hashes" not in _run("convert", path, "--out", tmp_path / "o.jsonl").output
    assert json.loads((tmp_path / "o.jsonl").read_text())["hash_ids"] == [1]


def test_estimated_counts_are_called_so(write: Write, tmp_path: Path) -> None:
    text = '[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]'
    path = write(text, "share.json")
    assert "estimated as characters / 4" in _run("info", path).output
    assert json.loads(_run("info", path, "--json").output)["is_approximated"]
    assert "estimated" in _run("convert", path, "--out", tmp_path / "o.csv").output
    assert (tmp_path / "o.csv").read_text().startswith("estimated_prompt_tokens,")
    assert "estimated" not in _run("info", write(TEXT)).output


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["info", "{tmp}/absent.csv"], InputError, "cannot read trace file"),
        (["info", "{tmp}/t.csv", "--max-context", "many"], UsageError, "max context 'many'"),
        (["convert", "{tmp}/t.csv", "--out", "{tmp}/no/dir.csv"], InputError, "cannot write"),
        (["convert", "{tmp}/t.csv", "--out", "o.x", "--format", "xml"], UsageError, "'xml'"),
    ],
)
def test_bad_requests_raise_one_sentence(
    write: Write, tmp_path: Path, arguments: list[str], error: type[Exception], sentence: str
) -> None:
    write(TEXT)
    with pytest.raises(error, match=sentence):
        _run(*(argument.format(tmp=tmp_path) for argument in arguments))
