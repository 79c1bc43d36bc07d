"""Token ids of sequences in flight, and what decides the next one and the end. Runs no model."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.model.sampling import LogitsError, sample
from apexbench.engine.model.sampling_params import RowState, SamplingParams
from apexbench.engine.model.sampling_params import Sampled as Token
from apexbench.engine.model.stopping import Completion
from apexbench.records import Request


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks of the model."""

    token_ids: tuple[int, ...]
    params: SamplingParams
    completion: Completion


PromptOf = Callable[[Request], Prompt]
TokenObserver = Callable[[int, Token], None]


@dataclass(slots=True, eq=False)
class SequenceState:
    """A sequence's tokens: its prompt, then everything generated. A preemption loses none."""

    id: int
    prompt: Prompt
    token_ids: list[int] = field(default_factory=list)
    is_failed: bool = False  # it gets no more tokens

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt.token_ids)

    @property
    def row(self) -> RowState:
        """What sampling must know for the next token."""
        return RowState(self.prompt.params, self.id, len(self.token_ids), self.token_ids)


class Sequences:
    """Sequences in flight by id. `on_token` is told of every token as it is sampled."""

    def __init__(self, prompt_of: PromptOf, on_token: TokenObserver | None = None) -> None:
        self._prompt_of = prompt_of
        self._on_token = on_token
        self._states: dict[int, SequenceState] = {}

    def __getitem__(self, sequence: int) -> SequenceState:
        return self._states[sequence]

    def admit(self, request: Request) -> None:
        """Look up what the request asks."""
        prompt = self._prompt_of(request)
        self._states[request.id] = SequenceState(request.id, prompt, list(prompt.token_ids))

    def release(self, sequence: int) -> None:
        """Forget a sequence that has ended."""
        self._states.pop(sequence, None)

    def give_up(self, rows: Iterable[int]) -> None:
        """What was computed for these is worth nothing; they get no more tokens."""
        for row in rows:
            if row in self._states:
                self._states[row].is_failed = True

    def extend(self, rows: Sequence[int], logits: Tensor) -> Sampled:
        """One more token for each of `rows`, from logits float32 [rows, vocab].

        Rows whose logits are no numbers fail, the others go on.
        """
        states = [self._states[row] for row in rows]
        try:
            tokens = sample(logits, [state.row for state in states])
        except LogitsError as error:
            bad = frozenset(error.request_ids)
            kept = [index for index, row in enumerate(rows) if row not in bad]
            good = self.extend([rows[index] for index in kept], logits[kept]) if kept else _NOTHING
            failed = tuple((row, str(LogitsError((row,)))) for row in error.request_ids)
            return good._replace(failed=failed)
        finished = {s.id for s, t in zip(states, tokens, strict=True) if self._take(s, t)}
        return Sampled(tuple((row, 1) for row in rows), frozenset(finished))

    def _take(self, state: SequenceState, token: Token) -> bool:
        """Whether the sequence is complete with this token."""
        state.token_ids.append(token.token)
        reason = state.prompt.completion.accept(token.token)
        if self._on_token is not None:
            self._on_token(state.id, token)
        return reason is not None


_NOTHING = Sampled((), frozenset())


def random_prompt(request: Request, vocab_size: int, seed: int) -> Prompt:
    """What a workload's request asks: its own token ids or random ones of its length, and as many
    tokens as it says, greedily. Depends on nothing but seed and request.
    """
    params = SamplingParams(max_tokens=request.output_tokens, ignore_eos=True)
    ids = request.token_ids
    if ids is None:
        generator = np.random.default_rng([seed, request.id])
        ids = tuple(generator.integers(vocab_size, size=request.prompt_tokens).tolist())
    return Prompt(ids, params, Completion(params, (), None))
