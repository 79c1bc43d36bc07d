"""Text to token ids and back, by the `tokenizers` library. Knows no chat templates.

A stream of tokens becomes text piece by piece; no piece ends inside a UTF-8 character.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tokenizers import Tokenizer as Vocabulary

from apexbench.errors import InputError

FILE = "tokenizer.json"
_REPLACEMENT = "\ufffd"  # how bytes that are no whole character are decoded
# A character has at most 4 bytes, so more tokens than this without its end are no character at all.
_MOST_HELD_TOKENS = 16


class TextStream(Protocol):
    """Text of a growing sequence, as pieces that never change afterwards."""

    def push(self, token: int) -> str:
        """The text that this token completes; may be empty."""
        ...

    def flush(self) -> str:
        """What is left at the end, half characters replaced by U+FFFD."""
        ...


class Tokenizer:
    """The tokenizer.json of a model folder."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a prompt, with the special tokens that the model's own template adds."""
        return tuple(self._vocabulary.encode(text).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return self._vocabulary.decode(list(token_ids))

    def stream(self, prompt: Sequence[int] = ()) -> "Detokenizer":
        """A stream of the text after `prompt`, so that its first word keeps its space."""
        return Detokenizer(self, prompt)


class Detokenizer:
    """Text of one sequence as it grows. Each push decodes a few tokens, never the whole sequence.

    A token's text depends on those before it (spaces, bytes of one character), so it is what the
    tokens since the last piece but one decode to, less what they decoded to before. Source: the
    offsets of Hugging Face's text-generation-inference.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._context = self._whole_characters(list(prompt[-_MOST_HELD_TOKENS:]))
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._held.append(token)
        piece = self._piece()
        is_whole = piece != "" and not piece.endswith(_REPLACEMENT)
        if is_whole or len(self._held) > _MOST_HELD_TOKENS:
            self._context, self._held = self._held, []
            return piece
        return ""

    def flush(self) -> str:
        """What is left at the end, half characters replaced by U+FFFD."""
        piece = self._piece()
        self._held = []
        return piece

    def _whole_characters(self, token_ids: list[int]) -> list[int]:
        """The ids without the end of a character whose beginning was cut off before them."""
        while token_ids and self._tokenizer.decode(token_ids).startswith(_REPLACEMENT):
            token_ids = token_ids[1:]
        return token_ids

    def _piece(self) -> str:
        known = self._tokenizer.decode(self._context)
        return self._tokenizer.decode(self._context + self._held)[len(known) :]


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a model folder; InputError where it has none or it cannot be read."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(f"model folder '{folder}' has no {FILE}; give token ids by --prompt-ids")
    try:
        return Tokenizer(Vocabulary.from_file(str(path)))
    except Exception as error:  # the library raises nothing more precise
        raise InputError(f"'{path}' is not a tokenizer ({error}); download it again") from error
