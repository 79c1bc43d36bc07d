"""From logits to tokens: penalty, temperature, filters, one draw per row. Stops nothing.

A row's token depends on its own logits, parameters and (seed, request, position) alone: every step
works row by row, and the random number is a function of that key, never the next one of a stream.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from apexbench.engine.model.sampling_params import RowState, Sampled
from apexbench.errors import ApexbenchError

# A nucleus is nearly always smaller than this; sorting 128 000 tokens takes 15 times as long as
# finding the best 1024.
_USUAL_NUCLEUS = 1024
_UNIFORM_BITS = 53  # what a double between 0 and 1 resolves
_WORD_BITS = 64


class LogitsError(ApexbenchError):
    """Some rows' logits are not numbers; `request_ids` says whose."""

    def __init__(self, request_ids: tuple[int, ...]) -> None:
        super().__init__(
            f"the logits of request {', '.join(map(str, request_ids))} are not finite; "
            "check the weights, or use fp32 or bf16 if they overflow in fp16"
        )
        self.request_ids = request_ids


@torch.inference_mode()
def sample(logits: Tensor, rows: Sequence[RowState]) -> list[Sampled]:
    """One token per row of logits float32 [n, vocab], which are left as they are.

    Raises LogitsError where a row has NaN or infinite logits, before any row is sampled. The order
    is that of Transformers: repetition penalty, temperature, top-k, top-p, min-p. Of equal best
    logits the lowest id wins.
    """
    _refuse_infinite(logits, rows)
    scores = penalised(logits, rows)
    tokens: list[int] = scores.argmax(dim=-1).tolist()
    drawn = [index for index, row in enumerate(rows) if not row.params.is_greedy]
    if drawn:
        owners = [rows[index] for index in drawn]
        picks = _draw(filtered(scores[drawn], owners), owners)
        for index, token in zip(drawn, picks, strict=True):
            tokens[index] = token
    return _with_logprobs(logits, rows, tokens)


def penalised(logits: Tensor, rows: Sequence[RowState]) -> Tensor:
    """Logits after the repetition penalty (arXiv 1909.05858); the same tensor if nobody has one.

    Positive logits of tokens seen are divided by it, negative ones multiplied.
    """
    penalised_rows = [i for i, row in enumerate(rows) if row.params.repetition_penalty != 1]
    if not penalised_rows:
        return logits
    scores = logits.clone()
    for index in penalised_rows:
        penalty = rows[index].params.repetition_penalty
        seen = torch.tensor(rows[index].history, dtype=torch.int64, device=logits.device)
        old = logits[index, seen]
        scores[index, seen] = torch.where(old < 0, old * penalty, old / penalty)
    return scores


def filtered(scores: Tensor, rows: Sequence[RowState]) -> Tensor:
    """Scores over temperature, -inf where top-k, top-p or min-p forbid the token.

    Tokens that tie with the last one allowed are allowed too. No row may be greedy.
    """
    scores = scores / _column([row.params.temperature for row in rows], scores)
    filters = (
        (_top_k, [row.params.top_k for row in rows], 0),
        (_top_p, [row.params.top_p for row in rows], 1),
        (_min_p, [row.params.min_p for row in rows], 0),
    )
    for keep, values, off in filters:
        using = [index for index, value in enumerate(values) if value != off]
        if using:
            kept = scores[using]
            allowed = keep(kept, [values[index] for index in using])
            scores[using] = kept.masked_fill_(~allowed, -torch.inf)
    return scores


def uniform(seed: int, request_id: int, position: int) -> float:
    """The random number in [0, 1) of one token: Philox4x64 keyed by request, counted by position.

    Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC'11).
    """
    key = np.array([seed, request_id], dtype=np.uint64)
    counter = np.array([position, 0, 0, 0], dtype=np.uint64)
    word = int(np.random.Philox(key=key, counter=counter).random_raw())
    return (word >> (_WORD_BITS - _UNIFORM_BITS)) / 2.0**_UNIFORM_BITS


def _refuse_infinite(logits: Tensor, rows: Sequence[RowState]) -> None:
    # the largest is NaN if any is; -inf alone would never be drawn
    finite = logits.amax(dim=-1).isfinite()
    if not finite.all():
        bad = (~finite).nonzero()[:, 0].tolist()
        raise LogitsError(tuple(rows[index].request_id for index in bad))


def _draw(scores: Tensor, rows: Sequence[RowState]) -> list[int]:
    """Inverse of the cumulated probabilities, in fp64 so that rare tokens keep their share."""
    cumulated = scores.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    numbers = [uniform(row.params.seed, row.request_id, row.position) for row in rows]
    # a number is at most 1 - 2^-53, so the product never rounds up to the total
    targets = _column(numbers, cumulated) * cumulated[:, -1:]
    picks: list[int] = torch.searchsorted(cumulated, targets, right=True)[:, 0].tolist()
    return picks


def _top_k(scores: Tensor, counts: Sequence[float]) -> Tensor:
    """Whether a token is among the best k of its row."""
    vocabulary = scores.shape[-1]
    ranks = [min(int(count), vocabulary) - 1 for count in counts]
    best = scores.topk(max(ranks) + 1).values
    floors = best.gather(-1, torch.tensor(ranks, device=scores.device)[:, None])
    return scores >= floors


def _top_p(scores: Tensor, shares: Sequence[float]) -> Tensor:
    """Whether a token is in the smallest set of best tokens with at least the share p.

    Source: nucleus sampling, arXiv 1904.09751.
    """
    probabilities = scores.softmax(dim=-1)
    wanted = _column(shares, probabilities).double()
    floors, is_whole = _nucleus_floor(probabilities, wanted, _USUAL_NUCLEUS)
    wide = (~is_whole).nonzero()[:, 0]
    if wide.numel():
        vocabulary = probabilities.shape[-1]
        floors[wide] = _nucleus_floor(probabilities[wide], wanted[wide], vocabulary)[0]
    return probabilities >= floors


def _nucleus_floor(probabilities: Tensor, wanted: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Least probability [n, 1] of nuclei of at most `most` tokens, and whether each is one [n]."""
    size = min(most, probabilities.shape[-1])
    best = probabilities.topk(size).values
    before = best.cumsum(dim=-1, dtype=torch.float64) - best
    is_in = before < wanted
    counts = is_in.sum(dim=-1)
    floors = best.gather(-1, counts.clamp(min=1)[:, None] - 1)
    return floors, (counts < size) | (size == probabilities.shape[-1])


def _min_p(scores: Tensor, shares: Sequence[float]) -> Tensor:
    """Whether a token has at least the share p of the best one's probability (arXiv 2407.01082)."""
    probabilities = scores.softmax(dim=-1)
    best = probabilities.amax(dim=-1, keepdim=True)
    return probabilities >= _column(shares, probabilities) * best


def _with_logprobs(logits: Tensor, rows: Sequence[RowState], tokens: list[int]) -> list[Sampled]:
    sampled = [Sampled(token) for token in tokens]
    for index, row in enumerate(rows):
        if row.params.logprobs is not None:
            sampled[index] = _explained(logits[index], tokens[index], row.params.logprobs)
    return sampled


def _explained(logits: Tensor, token: int, alternatives: int) -> Sampled:
    logprobs = logits.log_softmax(dim=-1)
    best = logprobs.topk(min(alternatives, logprobs.shape[-1]))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return Sampled(token, float(logprobs[token]), tuple(pairs))


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
