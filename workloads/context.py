"""The limit on prompt plus output tokens, and what happens to requests above it."""

from dataclasses import dataclass
from typing import Literal, Self, cast, get_args

import numpy as np

from apexbench.errors import UsageError
from apexbench.workloads.lengths import BoolArray, IntArray
from apexbench.workloads.trace import PrefixHashes

Mode = Literal["drop", "clip"]
DROPPED = "longer than max context"
CLIPPED = "clipped to max context"
MIN_TOKENS = 2  # one token in and one token out


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """At most `tokens` prompt and output tokens together; longer requests are left out or cut."""

    tokens: int
    mode: Mode = "drop"

    def __post_init__(self) -> None:
        if self.tokens < MIN_TOKENS:
            raise UsageError(
                f"max context must be at least {MIN_TOKENS} tokens (one in, one out),"
                f" not {self.tokens}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """From "4096", "4096:drop" or "4096:clip"; UsageError for anything else."""
        tokens, _, mode = text.partition(":")
        mode = mode if ":" in text else "drop"
        if not (tokens.isascii() and tokens.isdigit()) or mode not in get_args(Mode):
            raise UsageError(
                f"max context '{text}' is not understood; write a number of tokens, as in 4096,"
                " 4096:drop or 4096:clip"
            )
        return cls(int(tokens), cast("Mode", mode))

    def over(self, prompt: IntArray, output: IntArray) -> BoolArray:
        """Which requests are longer than the limit, shape [n]."""
        return prompt + output > self.tokens

    def clip(self, prompt: IntArray, output: IntArray) -> tuple[IntArray, IntArray]:
        """Cut the prompt first, down to one token, and only then the output; shapes [n]."""
        cut_prompt = np.minimum(prompt, np.maximum(1, self.tokens - output))
        return cut_prompt, np.minimum(output, self.tokens - cut_prompt)


def cut_hashes(hashes: PrefixHashes, prompt: IntArray, cut_prompt: IntArray) -> PrefixHashes:
    """The hashes that still hold where prompts were cut from the end; untouched elsewhere.

    The block size B is unknown, but k hashes of p tokens mean ceil(p / B) = k, so n tokens fill at
    least floor(n (k - 1) / p) whole blocks. A block cut short is another block.
    """
    rows = zip(hashes, prompt.tolist(), cut_prompt.tolist(), strict=True)
    return tuple(own if n == p else own[: n * max(0, len(own) - 1) // p] for own, p, n in rows)
