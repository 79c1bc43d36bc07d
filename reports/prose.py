"""Sentences that remember the numbers in them; formed by verdicts, shown by every renderer."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a sentence: what it is (`key`), its exact value, and how it is printed."""

    key: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Name:
    """A name from the document (policy, scenario), so that renderers can set it apart."""

    text: str


Part = str | Number | Name


@dataclass(frozen=True, slots=True)
class Sentence:
    """Text with its numbers and names kept apart."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """The sentence as plain text."""
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    @property
    def numbers(self) -> tuple[Number, ...]:
        """Every number in the sentence, in order."""
        return tuple(part for part in self.parts if isinstance(part, Number))


def sentence(*parts: Part | Iterable[Part]) -> Sentence:
    """A sentence of parts; nested runs of parts are flattened."""
    flat: list[Part] = []
    for part in parts:
        if isinstance(part, str | Number | Name):
            flat.append(part)
        else:
            flat.extend(part)
    return Sentence(tuple(flat))
