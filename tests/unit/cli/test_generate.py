"""`apexbench generate` on a tiny model: text, order, documents, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from apexbench.cli.generate import _Printer
from apexbench.cli.main import run
from tests.speaking_model import POSITIONS, write_speaking_model

PRESSED = ("--gpu-kv-tokens", "64", "--cpu-kv-tokens", "1024", "--cpu-threads", "1",
           "--gpu-threads", "1")  # fmt: skip
PROMPTS = ("--prompt", "one", "--prompt", "and two", "--prompt", "three, of these")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_model(tmp_path_factory.mktemp("model"))


def answers(model: Path, path: Path, *arguments: str) -> dict[str, Any]:
    """The document of a run that succeeds."""
    code = run(["generate", "--model", str(model), "--json", str(path), *arguments])
    assert code == 0
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_text_is_printed_as_it_stands_in_the_document(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = answers(model, tmp_path / "a.json", "--prompt", "hello", "--max-new-tokens", "12")
    out, errors = capfd.readouterr()
    (answer,) = found["answers"]
    assert out == answer["text"] + "\n"
    assert answer["prompt"] == "hello"
    assert len(answer["prompt_token_ids"]) == 5
    assert len(answer["token_ids"]) == 12
    assert answer["finish_reason"] == "length"
    assert answer["logprobs"] is None
    assert "12 tokens for 1 prompt in" in errors
    assert "12 gpu_only; 0 tokens decoded on the CPU tier" in errors


def test_answers_come_in_the_order_of_the_prompts(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = answers(model, tmp_path / "a.json", *PROMPTS, "--max-new-tokens", "8")
    out = capfd.readouterr().out
    texts = [answer["text"] for answer in found["answers"]]
    assert out == "\n\n".join(f"--- {n}/3\n{text}" for n, text in enumerate(texts, 1)) + "\n"


@pytest.mark.parametrize("policy", ["apex", "planner", "static:deferred"])
def test_where_attention_runs_changes_no_text(policy: str, model: Path, tmp_path: Path) -> None:
    length = ("--max-new-tokens", "40", "--ignore-eos")
    alone = answers(model, tmp_path / "a.json", *PROMPTS, *length)
    shared = answers(model, tmp_path / "b.json", *PROMPTS, *length, *PRESSED, "--policies", policy)
    assert alone["policy"] == "gpu-only"
    assert shared["policy"] == policy
    assert sum(answer["cpu_decode_tokens"] for answer in shared["answers"]) > 0
    for one, other in zip(alone["answers"], shared["answers"], strict=True):
        assert one["token_ids"] == other["token_ids"]


def test_draws_depend_on_the_seed_alone(model: Path, tmp_path: Path) -> None:
    def tokens(seed: str, *more: str) -> list[int]:
        drawn = ("--temperature", "1.5", "--seed", seed, "--max-new-tokens", "30", "--ignore-eos")
        found = answers(model, tmp_path / "a.json", *PROMPTS, *drawn, *more)
        ids: list[int] = found["answers"][1]["token_ids"]
        return ids

    assert tokens("1") == tokens("1", *PRESSED)
    assert tokens("1") != tokens("2")


def test_a_stop_string_ends_the_text_before_it(model: Path, tmp_path: Path) -> None:
    free = answers(model, tmp_path / "a.json", "--prompt-ids", "5,6", "--max-new-tokens", "20")
    text = free["answers"][0]["text"]
    assert len(text) > 6
    cut = answers(
        model, tmp_path / "b.json", "--prompt-ids", "5,6", "--max-new-tokens", "20",
        "--stop", text[4:6],
    )  # fmt: skip
    (answer,) = cut["answers"]
    assert answer["finish_reason"] == "stop_string"
    assert answer["text"] == text[: text.index(text[4:6])]


def test_logprobs_are_reported_with_alternatives(model: Path, tmp_path: Path) -> None:
    found = answers(
        model, tmp_path / "a.json", "--prompt", "x", "--max-new-tokens", "3", "--logprobs", "2"
    )
    for entry, token in zip(
        found["answers"][0]["logprobs"], found["answers"][0]["token_ids"], strict=True
    ):
        assert entry["token"] == token == entry["top"][0]["token"]
        assert entry["top"][0]["logprob"] == pytest.approx(entry["logprob"])
        assert len(entry["top"]) == 2


def test_the_document_alone_on_standard_output(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--prompt-ids", "1,2", "--max-new-tokens", "2", "--json", "-", "--quiet"]
    assert run(["generate", "--model", str(model), *arguments]) == 0
    out, errors = capfd.readouterr()
    assert json.loads(out)["kind"] == "generate"
    assert errors == ""


def test_a_file_has_a_prompt_per_line(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("first\n\nsecond\n")
    found = answers(model, tmp_path / "a.json", "--prompt-file", str(file), "--max-new-tokens", "2")
    assert [answer["prompt"] for answer in found["answers"]] == ["first", "second"]


def test_without_a_tokenizer_ids_are_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bare = write_speaking_model(tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    found = answers(bare, tmp_path / "a.json", "--prompt-ids", "7,8", "--max-new-tokens", "3")
    (answer,) = found["answers"]
    assert answer["text"] is None
    assert capfd.readouterr().out.split() == [str(token) for token in answer["token_ids"]]


def test_random_weights_need_a_shape_alone(model: Path, tmp_path: Path) -> None:
    shape = tmp_path / "config.json"
    shape.write_text((model / "config.json").read_text())
    given = ("--weights", "dummy", "--prompt-ids", "1", "--max-new-tokens", "3", "--dtype", "bf16")
    found = answers(shape, tmp_path / "a.json", *given)
    assert (found["weights"], found["dtype"]) == ("dummy", "bf16")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("", 2, "no prompt given; name prompts by one of --prompt, --prompt-ids, --prompt-file"),
        ("--prompt a --prompt-ids 1", 2, "--prompt and --prompt-ids given; name prompts by one of"),
        ("--prompt-ids 1,x", 2, "--prompt-ids must be token ids such as 1,15043,29892; got '1,x'"),
        ("--prompt-ids 1,300", 3, "the prompt has token ids outside 0..299 of the model"),
        ("--prompt-ids 1 --prompt-ids 1,300", 3, "prompt 2: the prompt has token ids outside"),
        ("--prompt a --max-new-tokens 600", 3, f"but the model has {POSITIONS}; shorten one"),
        ("--prompt a --max-new-tokens 0", 2, "max_tokens is 0; expected at least 1"),
        ("--prompt a --temperature -1", 2, "temperature is -1.0; expected"),
        ("--prompt a --top-p 0", 2, "top_p is 0.0; expected"),
        ("--prompt a --gpu-kv-tokens 8", 2, "expected at least one block of 16"),
        ("--prompt a --gpu-kv-tokens 16 --cpu-kv-tokens 8", 2, "at least one block of 64"),
        ("--prompt a --gpu-kv-tokens 16 --policies gpu-only", 3, "and the larger pool has 16"),
        ("--prompt a --dtype fp8", 2, "--dtype must be fp32, bf16 or fp16, got 'fp8'"),
        ("--prompt a --weights int4", 2, "--weights int4 is for a modelled GPU"),
        ("--prompt a --policies nope", 2, "unknown policy 'nope'"),
        ("--prompt a --set min_cpu_row=1", 2, "did you mean min_cpu_rows"),
        ("--prompt a --cpu-threads 9999", 2, "this process may use"),
        ("--prompt-file missing.txt", 3, "cannot read prompt file 'missing.txt'"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    arguments: str, code: int, sentence: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "--model", str(model), *arguments.split()]) == code
    out, errors = capfd.readouterr()
    assert out == ""
    (complaint,) = errors.splitlines()
    assert complaint.startswith("apexbench: ")
    assert sentence in complaint


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("/no/such/folder", 3, "cannot read model config '/no/such/folder'"),
        ("llama-2-7", 2, "unknown model 'llama-2-7'; did you mean llama-2-7b"),
        ("llama-2-7b", 2, "'llama-2-7b' is a shape without weights"),
    ],
)
def test_models_that_are_not_there(
    name: str, code: int, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", "--model", name, "--prompt-ids", "1"]) == code
    assert sentence in capfd.readouterr().err


def test_no_model_and_no_tokenizer(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--prompt-ids", "1"]) == 2
    assert "name it with --model" in capfd.readouterr().err
    bare = write_speaking_model(tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert run(["generate", "--model", str(bare), "--prompt", "text"]) == 3
    assert "has no tokenizer.json; give token ids by --prompt-ids" in capfd.readouterr().err


def test_damaged_weights_are_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = write_speaking_model(tmp_path / "broken")
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert run(["generate", "--model", str(broken), "--prompt", "a"]) == 3
    (complaint,) = capfd.readouterr().err.splitlines()
    assert "model.safetensors" in complaint


# --- streaming ------------------------------------------------------------------------------------


def test_the_first_open_answer_streams_and_later_ones_wait(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def shown() -> str:
        return capfd.readouterr().out

    printer = _Printer(3, is_shown=True)
    printer.piece(1, "b1", is_over=False)
    assert shown() == "--- 1/3\n"
    printer.piece(0, "a1", is_over=False)
    assert shown() == "a1"
    printer.piece(2, "c", is_over=True)
    assert shown() == ""
    printer.piece(0, "a2", is_over=True)
    assert shown() == "a2\n\n--- 2/3\nb1"
    printer.piece(1, "b2", is_over=True)
    assert shown() == "b2\n\n--- 3/3\nc\n"
    printer.rest()
    assert shown() == ""


def test_what_was_interrupted_is_printed_too(capfd: pytest.CaptureFixture[str]) -> None:
    printer = _Printer(2, is_shown=True)
    printer.piece(1, "b", is_over=False)
    printer.piece(0, "a", is_over=False)
    printer.rest()
    assert capfd.readouterr().out == "--- 1/2\na\n\n--- 2/2\nb\n"
