"""What one request asks of its tokens. Values and their checks; draws nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from apexbench.errors import UsageError

_SEED_BITS = 64  # what one word of the counter-based generator's key holds
# Outside these fp32 scores overflow, or every choice is the same as greedy.
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 1e-3, 1e3
_LEAST_PENALTY, _MOST_PENALTY = 1e-2, 1e2


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling and stopping of one request; UsageError for a value that has no meaning.

    temperature 0 is greedy and ignores top_k, top_p and min_p; top_k 0, top_p 1, min_p 0 and
    repetition_penalty 1 are off. `stop` strings end a request and are not part of its text,
    `stop_token_ids` end it as EOS does. logprobs: None, or how many alternatives to report.
    """

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None

    def __post_init__(self) -> None:
        _require("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        is_usable = _LEAST_TEMPERATURE <= self.temperature <= _MOST_TEMPERATURE
        expected = f"0 (greedy) or {_LEAST_TEMPERATURE} to {_MOST_TEMPERATURE:.0f}"
        _require("temperature", self.temperature, self.is_greedy or is_usable, expected)
        _require("top_k", self.top_k, self.top_k >= 0, "0 (off) or more")
        _require("top_p", self.top_p, 0 < self.top_p <= 1, "above 0, at most 1 (off)")
        _require("min_p", self.min_p, 0 <= self.min_p <= 1, "between 0 (off) and 1")
        penalty = self.repetition_penalty
        is_penalty = _LEAST_PENALTY <= penalty <= _MOST_PENALTY
        expected = f"{_LEAST_PENALTY} to {_MOST_PENALTY:.0f} (1 is off)"
        _require("repetition_penalty", penalty, is_penalty, expected)
        _require("seed", self.seed, 0 <= self.seed < 2**_SEED_BITS, "between 0 and 2^64 - 1")
        _require("stop", self.stop, all(self.stop), "strings that are not empty")
        _require("logprobs", self.logprobs, (self.logprobs or 0) >= 0, "0 or more")

    @property
    def is_greedy(self) -> bool:
        """Whether the best token is taken without a draw."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True)
class RowState:
    """One row to sample: whose it is, and which of its tokens.

    (params.seed, request_id, position) names the random number; position is that of the token to be
    drawn. history: ids of prompt and output so far, for the repetition penalty.
    """

    params: SamplingParams
    request_id: int
    position: int
    history: Sequence[int]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One token. Log probabilities are the model's own, before penalty, temperature and filters.

    None and empty unless asked for; top_logprobs are (token, log probability), best first.
    """

    token: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def _require(name: str, value: object, is_valid: bool, expected: str) -> None:
    if not is_valid:
        raise UsageError(f"sampling: {name} is {value!r}; expected {expected}")
