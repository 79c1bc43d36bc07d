"""When a request is done, and what of its text may be shown already. Samples nothing."""

from enum import StrEnum

from apexbench.engine.model.sampling_params import SamplingParams
from apexbench.engine.model.tokenizer import TextStream
from apexbench.errors import InvariantError, UsageError


class FinishReason(StrEnum):
    """Why a request ended."""

    EOS = "eos"
    STOP_TOKEN = "stop_token"
    STOP_STRING = "stop_string"
    LENGTH = "length"


class Completion:
    """Tokens and text of one request until it ends.

    Text is handed out once no stop string can begin in it any more. The token that ends a request
    is counted but has no text; a stop string and what follows it are cut off.
    """

    def __init__(
        self, params: SamplingParams, eos_token_ids: tuple[int, ...], stream: TextStream | None
    ) -> None:
        if params.stop and stream is None:
            raise UsageError("stop strings need a tokenizer; stop by token ids or leave them out")
        self._params = params
        self._eos = () if params.ignore_eos else eos_token_ids
        self._stream = stream
        self._pending = ""
        self._ready = ""
        self.token_ids: list[int] = []
        self.text = ""
        self.finish: FinishReason | None = None

    def accept(self, token: int) -> FinishReason | None:
        """Takes the next token; the reason if it is the last one."""
        if self.finish is not None:
            raise InvariantError("a request was given a token after it had ended")
        self.token_ids.append(token)
        self.finish = self._last_token(token) or self._read(token)
        if self.finish is None and len(self.token_ids) == self._params.max_tokens:
            self.finish = FinishReason.LENGTH
        if self.finish is not None:
            self._end()
        return self.finish

    def take_text(self) -> str:
        """Text to show since the last call; `text` keeps all of it."""
        ready, self._ready = self._ready, ""
        return ready

    def _last_token(self, token: int) -> FinishReason | None:
        if token in self._eos:
            return FinishReason.EOS
        return FinishReason.STOP_TOKEN if token in self._params.stop_token_ids else None

    def _read(self, token: int) -> FinishReason | None:
        if self._stream is None:
            return None
        return self._show(self._stream.push(token))

    def _show(self, piece: str) -> FinishReason | None:
        """Moves text from pending to ready; STOP_STRING if one is complete, the rest dropped."""
        self._pending += piece
        start = _first_stop(self._pending, self._params.stop)
        end = len(self._pending) - _held_back(self._pending, self._params.stop)
        shown = self._pending[: end if start is None else start]
        self._ready += shown
        self.text += shown
        self._pending = self._pending[end:] if start is None else ""
        return None if start is None else FinishReason.STOP_STRING

    def _end(self) -> None:
        """Shows what waited for a stop string or the rest of a character that did not come."""
        if self._stream is None or self.finish is FinishReason.STOP_STRING:
            return
        self.finish = self._show(self._stream.flush()) or self.finish
        self._ready += self._pending
        self.text += self._pending
        self._pending = ""


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    """Where the stop string begins that is complete first, however text was cut into pieces."""
    found = ((text.find(stop), stop) for stop in stops)
    complete = [(start + len(stop), start) for start, stop in found if start >= 0]
    return min(complete)[1] if complete else None


def _held_back(text: str, stops: tuple[str, ...]) -> int:
    """Characters at the end of `text` that may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
