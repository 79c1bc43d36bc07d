"""Conversations as ShareGPT writes them to token counts; estimates, for want of a tokenizer."""

from itertools import pairwise
from typing import Any

import numpy as np

from apexbench.errors import InputError
from apexbench.workloads.lengths import IntArray
from apexbench.workloads.tables import Table
from apexbench.workloads.trace import Trace

COLUMN = "conversations"
NO_PAIR = "no human message followed by an answer"
# Rule of thumb for English text and byte-pair vocabularies of 32 to 128 thousand entries. Code,
# numbers and other scripts have fewer characters a token: hence "approximated".
CHARACTERS_PER_TOKEN = 4
ESTIMATE = f"token counts estimated as characters / {CHARACTERS_PER_TOKEN}"
# Collections in this form name the two sides in these ways.
HUMAN = ("human", "user")
MODEL = ("gpt", "chatgpt", "assistant")


def shrink(row: dict[str, Any]) -> dict[str, Any]:
    """A message {"from", "value"} with its text replaced by the number of its characters.

    Done while the file is read, so that the texts are never all in memory a second time.
    """
    if "from" in row:
        text = row.pop("value", None)
        row["characters"] = len(text) if isinstance(text, str) else None
    return row


def conversation_trace(table: Table, sha256: str) -> Trace:
    """One request a conversation: its first human message and the answer right after it.

    The rows without such a pair are dropped and counted; what follows the pair, and a system
    message before it, is left out. Lengths are estimates, so the trace is approximated. InputError
    where a row holds no list of messages, or no row a pair.
    """
    pairs = [_first_pair(table, i, messages) for i, messages in enumerate(table.column(COLUMN))]
    found = [pair for pair in pairs if pair is not None]
    if not found:
        raise InputError(
            f"'{table.name}' has no usable conversation: none of its {len(pairs)} rows has a"
            " message from 'human' followed by one from 'gpt'"
        )
    num_dropped = len(pairs) - len(found)
    prompt, output = np.array(found, dtype=np.int64).T
    return Trace(
        name=table.name,
        format=f"sharegpt-{table.layout}",
        sha256=sha256,
        num_rows=len(pairs),
        arrival_s=None,
        prompt_tokens=_tokens(prompt),
        output_tokens=_tokens(output),
        dropped=((NO_PAIR, num_dropped),) if num_dropped else (),
        is_approximated=True,
    )


def _first_pair(table: Table, row: int, messages: Any) -> tuple[int, int] | None:
    """Characters of the first human message that is answered, and of its answer."""
    if not isinstance(messages, list):
        raise InputError(
            f"row {table.numbers[row]} of '{table.name}': {COLUMN!r} is {messages!r:.60}, not a"
            ' list of messages as in {"from": "human", "value": "Hello"}'
        )
    for asked, answered in pairwise(messages):
        prompt, output = _characters(asked, HUMAN), _characters(answered, MODEL)
        if prompt is not None and output is not None:
            return prompt, output
    return None


def _characters(message: Any, speakers: tuple[str, ...]) -> int | None:
    """Of a message after `shrink`; None when someone else speaks, or there is no text."""
    if not isinstance(message, dict) or message.get("from") not in speakers:
        return None
    characters = message.get("characters")
    return characters if isinstance(characters, int) else None


def _tokens(characters: IntArray) -> IntArray:
    """Rounded up: the shortest text is still one token."""
    return -(-characters // CHARACTERS_PER_TOKEN)
