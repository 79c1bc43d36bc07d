"""Streams of tokens of byte-level and byte-fallback vocabularies, whose characters span tokens."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from apexbench.engine.model.tokenizer import Tokenizer, load_tokenizer
from apexbench.errors import InputError

TEXT = ["The quick brown fox jumps over the lazy dog, again and again.", "naïve café - über"]
texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd<"), max_size=30)


def byte_level() -> tokenizers.Tokenizer:
    """As in Llama 3 and Qwen: every byte is a token, frequent runs of bytes as well."""
    vocabulary = tokenizers.Tokenizer(models.BPE())
    vocabulary.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    vocabulary.train_from_iterator(TEXT, trainer)
    vocabulary.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    return vocabulary


def byte_fallback() -> tokenizers.Tokenizer:
    """As in Llama 2: words begin with a mark, unknown characters become one token per byte."""
    words = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    words += ["▁" + word for word in ("The", "dog", "fox")] + list("Thedogfx ")
    vocabulary = tokenizers.Tokenizer(
        models.BPE(
            {word: index for index, word in enumerate(words)},
            [],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    vocabulary.add_special_tokens(["<s>", "</s>"])
    vocabulary.pre_tokenizer = pre_tokenizers.Metaspace()
    vocabulary.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return vocabulary


KINDS = {"byte-level": Tokenizer(byte_level()), "byte-fallback": Tokenizer(byte_fallback())}


def stream(tokenizer: Tokenizer, ids: Sequence[int], prompt: Sequence[int] = ()) -> list[str]:
    own = tokenizer.stream(prompt)
    return [*(own.push(token) for token in ids), own.flush()]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_pieces_add_up_to_the_text_and_never_split_a_character(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]
    ids = tokenizer.encode(text)
    pieces = stream(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(text=texts, more=texts)
def test_the_text_after_a_prompt(kind: str, text: str, more: str) -> None:
    tokenizer = KINDS[kind]
    prompt, ids = tokenizer.encode("The " + text), tokenizer.encode(" fox " + more)
    whole = tokenizer.decode([*prompt, *ids])
    assert tokenizer.decode(prompt) + "".join(stream(tokenizer, ids, prompt)) == whole


def test_a_character_waits_for_its_last_byte() -> None:
    tokenizer = KINDS["byte-level"]
    ids = tokenizer.encode("a😀b")[1:]
    assert stream(tokenizer, ids) == ["a", "", "", "", "😀", "b", ""]


def test_half_a_character_at_the_end_is_replaced() -> None:
    tokenizer = KINDS["byte-level"]
    ids = tokenizer.encode("a😀")[1:-1]
    pieces = stream(tokenizer, ids)
    assert pieces[:-1] == ["a", "", "", ""]
    assert set(pieces[-1]) == {"\ufffd"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_of_long_characters_does_not_spoil_what_follows(kind: str) -> None:
    tokenizer = KINDS[kind]
    ids = tokenizer.encode("a" + "€" * 11)  # three tokens each; some prompts are cut inside one
    for characters in range(1, 10):
        rest = ids[-3 * characters :]
        assert "".join(stream(tokenizer, rest, ids[: -len(rest)])) == "€" * characters


def test_a_first_word_keeps_its_space_after_a_prompt() -> None:
    tokenizer = KINDS["byte-fallback"]
    ids = tokenizer.encode("dog")
    assert "".join(stream(tokenizer, ids)) == "dog"
    assert "".join(stream(tokenizer, ids, tokenizer.encode("The"))) == " dog"


@pytest.mark.parametrize(
    ("kind", "token"),
    [("byte-fallback", 3 + 0x80), ("byte-level", 1)],
    ids=["a byte that begins no character", "a token without text"],
)
def test_tokens_without_text_are_not_held_for_ever(kind: str, token: int) -> None:
    own = KINDS[kind].stream()
    for _ in range(60):
        own.push(token)
        assert len(own._held) <= 16


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 270), max_size=120))
def test_random_tokens_give_some_text(ids: list[int]) -> None:
    # what an untrained model produces: mostly bytes that are no characters
    for tokenizer in KINDS.values():
        assert bool("".join(stream(tokenizer, ids))) >= bool(tokenizer.decode(ids).strip())


def test_special_tokens_are_added_to_prompts_and_left_out_of_text() -> None:
    tokenizer = KINDS["byte-level"]
    ids = tokenizer.encode("The dog")
    assert ids[0] == 0
    assert tokenizer.decode([*ids, 1]) == "The dog"
    assert stream(tokenizer, [1] * 40) == [""] * 41


def test_a_tokenizer_is_read_from_its_folder(tmp_path: Path) -> None:
    byte_level().save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("fox") == KINDS["byte-level"].encode("fox")


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"model folder '{tmp_path}' has no tokenizer.json; give token ids by --prompt-ids"
    )


@pytest.mark.parametrize("content", ["", "{}", '{"model": 3}', "\x00"])
def test_a_file_that_is_no_tokenizer(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json' is not a tokenizer \(.*download"):
        load_tokenizer(tmp_path)
