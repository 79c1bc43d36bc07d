"""Filters against transformers' processors, draws against the filtered distribution."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from apexbench.engine.model.sampling import LogitsError, filtered, penalised, sample, uniform
from apexbench.engine.model.sampling_params import RowState, SamplingParams
from apexbench.errors import UsageError
from tests.checkpoints import transformers

VOCABULARY = 83
# written down so that a seed keeps its tokens whatever the versions
KNOWN = [0.011546754286331562, 0.6527702009682942]


def params(**changes: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 8, **changes})


def row(position: int = 0, request_id: int = 0, history: Any = (), **changes: Any) -> RowState:
    return RowState(params(**changes), request_id, position, history)


def random_logits(rows: int, seed: int, vocabulary: int = VOCABULARY) -> Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def reference(logits: Tensor, state: RowState) -> Tensor:
    """Scores [vocabulary] after the processors that generate() of transformers builds, in order."""
    library = transformers()
    own = state.params
    ids = torch.tensor([list(state.history)], dtype=torch.int64)
    scores = logits[None]
    if own.repetition_penalty != 1:
        scores = library.RepetitionPenaltyLogitsProcessor(own.repetition_penalty)(ids, scores)
    scores = library.TemperatureLogitsWarper(own.temperature)(ids, scores)
    if own.top_k:
        scores = library.TopKLogitsWarper(own.top_k)(ids, scores)
    if own.top_p < 1:
        scores = library.TopPLogitsWarper(own.top_p)(ids, scores)
    if own.min_p > 0:
        scores = library.MinPLogitsWarper(own.min_p)(ids, scores)
    result: Tensor = scores[0]
    return result


drawn_rows = st.builds(
    row,
    position=st.integers(0, 99),
    request_id=st.integers(0, 9),
    history=st.lists(st.integers(0, VOCABULARY - 1), max_size=12),
    temperature=st.sampled_from([0.3, 0.7, 1.0, 2.5]),
    top_k=st.sampled_from([0, 1, 5, 40, 500]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    repetition_penalty=st.sampled_from([0.7, 1.0, 1.3]),
    seed=st.integers(0, 3),
)
any_rows = drawn_rows | st.builds(
    row,
    history=st.lists(st.integers(0, VOCABULARY - 1), max_size=12),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    logprobs=st.sampled_from([None, 0, 3]),
)


@settings(max_examples=100, deadline=None)
@given(states=st.lists(drawn_rows, min_size=1, max_size=5), seed=st.integers(0, 999))
def test_filtered_scores_are_those_of_transformers(states: list[RowState], seed: int) -> None:
    logits = random_logits(len(states), seed)
    found = filtered(penalised(logits, states), states)
    for index, state in enumerate(states):
        expected = reference(logits[index], state)
        assert torch.equal(found[index].isfinite(), expected.isfinite())
        assert torch.allclose(found[index], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 8.0, 100.0])
def test_a_nucleus_of_thousands_of_tokens(temperature: float) -> None:
    logits = random_logits(2, seed=5, vocabulary=20_000)
    states = [row(temperature=temperature, top_p=top_p) for top_p in (0.3, 0.97)]
    found = filtered(logits, states)
    sizes = found.isfinite().sum(dim=-1).tolist()
    assert (max(sizes) > 1024) == (temperature > 1)
    for index, state in enumerate(states):
        assert sizes[index] == int(reference(logits[index], state).isfinite().sum())


def test_tokens_that_tie_with_the_last_one_allowed_stay() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    for changes in ({"top_k": 2}, {"top_p": 0.6}):
        kept = filtered(logits, [row(temperature=1.0, **changes)]).isfinite()
        assert kept.tolist() == [[True, True, True, True, False]]


def test_greedy_takes_the_best_and_of_equals_the_lowest() -> None:
    logits = torch.tensor([[0.0, 5.0, 5.0], [1.0, -2.0, 0.5]])
    assert [one.token for one in sample(logits, [row(), row()])] == [1, 0]
    seen = row(history=[1], repetition_penalty=2.0)
    assert sample(logits[:1], [seen])[0].token == 2


def test_penalty_pushes_down_what_was_seen_once_however_often() -> None:
    logits = torch.tensor([[4.0, -4.0, 1.0]])
    found = penalised(logits, [row(history=[0, 1, 0, 0], repetition_penalty=2.0)])
    assert found.tolist() == [[2.0, -8.0, 1.0]]
    assert logits.tolist() == [[4.0, -4.0, 1.0]]  # the caller's logits stay
    assert penalised(logits, [row(history=[0])]) is logits


@settings(max_examples=60, deadline=None)
@given(states=st.lists(any_rows, min_size=2, max_size=6), seed=st.integers(0, 999), data=st.data())
def test_a_row_does_not_depend_on_its_batch(
    states: list[RowState], seed: int, data: st.DataObject
) -> None:
    logits = random_logits(len(states), seed)
    together = sample(logits, states)
    alone = [sample(logits[i : i + 1], states[i : i + 1])[0] for i in range(len(states))]
    assert together == alone
    order = data.draw(st.permutations(range(len(states))))
    shuffled = sample(logits[list(order)], [states[index] for index in order])
    assert shuffled == [together[index] for index in order]


def test_sampling_leaves_logits_alone() -> None:
    logits = random_logits(3, seed=1)
    before = logits.clone()
    sample(logits, [row(temperature=1.0, top_k=3), row(temperature=2.0, top_p=0.5), row()])
    assert torch.equal(logits, before)


def test_numbers_are_a_function_of_seed_request_and_position() -> None:
    assert uniform(1, 2, 3) == uniform(1, 2, 3)
    keys = [
        (seed, request, place) for seed in range(5) for request in range(5) for place in range(5)
    ]
    assert len({uniform(*key) for key in keys}) == len(keys)
    assert uniform(2**64 - 1, 2**63, 2**40) != uniform(2**64 - 1, 2**63, 2**40 + 1)


def test_numbers_are_uniform_and_neighbours_are_independent() -> None:
    by_position = [uniform(0, 7, place) for place in range(4000)]
    by_request = [uniform(0, request, 7) for request in range(4000)]
    for numbers in (by_position, by_request):
        assert stats.kstest(numbers, "uniform").pvalue > 0.001
        assert abs(stats.pearsonr(numbers[:-1], numbers[1:]).statistic) < 0.05


def test_known_numbers_do_not_change_with_versions() -> None:
    assert [uniform(0, 0, 0), uniform(1, 2, 3)] == pytest.approx(KNOWN, abs=0, rel=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 1.0},
        {"temperature": 0.6},
        {"temperature": 1.5, "top_k": 6},
        {"temperature": 1.0, "top_p": 0.8},
        {"temperature": 1.0, "min_p": 0.1},
        {"temperature": 1.3, "repetition_penalty": 1.5, "top_k": 9, "top_p": 0.9},
    ],
)
def test_frequencies_are_those_of_the_filtered_distribution(changes: dict[str, Any]) -> None:
    logits = random_logits(1, seed=11, vocabulary=12) / 4
    draws = 6000
    states = [row(place, history=(3, 4), seed=5, **changes) for place in range(draws)]
    tokens = [one.token for one in sample(logits.expand(draws, -1).contiguous(), states)]
    wanted = reference(logits[0], states[0]).double().softmax(dim=-1)
    counts = torch.bincount(torch.tensor(tokens), minlength=12)
    assert not counts[wanted == 0].any()
    often = wanted * draws >= 5
    expected = wanted[often] / wanted[often].sum() * counts[often].sum()
    assert int(often.sum()) > 3
    assert stats.chisquare(counts[often].numpy(), expected.numpy()).pvalue > 0.001


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_draws_never_leave_the_allowed_tokens_at_the_edges(
    monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    monkeypatch.setattr("apexbench.engine.model.sampling.uniform", lambda *key: number)
    for allowed in ([5], [0, 1], [VOCABULARY - 1], list(range(3, 70))):
        logits = torch.full((1, VOCABULARY), -torch.inf)
        logits[0, allowed] = random_logits(1, seed=2)[0, allowed]
        token = sample(logits, [row(temperature=1.0)])[0].token
        assert token in allowed
        assert number != 0.0 or token == allowed[0]
        assert number < 1 - 2**-53 or token == allowed[-1]


def test_logprobs_are_the_models_own() -> None:
    logits = random_logits(2, seed=3)
    states = [
        row(logprobs=3, temperature=3.0, top_k=2, repetition_penalty=1.9, history=[1]),
        row(temperature=1.0),
    ]
    first, second = sample(logits, states)
    expected = logits[0].log_softmax(dim=-1)
    assert first.logprob == pytest.approx(float(expected[first.token]))
    best = expected.topk(3)
    assert [token for token, _ in first.top_logprobs] == best.indices.tolist()
    assert [value for _, value in first.top_logprobs] == pytest.approx(best.values.tolist())
    assert (second.logprob, second.top_logprobs) == (None, ())
    chosen = sample(logits[:1], [row(logprobs=0)])[0]
    assert chosen.logprob == pytest.approx(float(expected.max()))
    assert chosen.top_logprobs == ()
    assert len(sample(logits[:1], [row(logprobs=10_000)])[0].top_logprobs) == VOCABULARY


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_name_their_requests(value: float) -> None:
    logits = random_logits(3, seed=0)
    logits[1, 5] = value
    states = [row(request_id=7), row(request_id=8, temperature=1.0), row(request_id=9)]
    with pytest.raises(LogitsError, match="the logits of request 8 are not finite") as caught:
        sample(logits, states)
    assert caught.value.request_ids == (8,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0; expected at least 1"),
        ({"temperature": -1.0}, r"temperature is -1.0; expected 0 \(greedy\) or 0.001 to 1000"),
        ({"temperature": 1e-9}, "temperature is 1e-09"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"top_k": -1}, r"top_k is -1; expected 0 \(off\) or more"),
        ({"top_p": 0.0}, "top_p is 0.0; expected above 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"min_p": math.nan}, "min_p is nan"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; expected 0.01 to 100"),
        ({"seed": -1}, "seed is -1; expected between 0 and"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"stop": ("",)}, "expected strings that are not empty"),
        ({"logprobs": -1}, "logprobs is -1"),
    ],
)
def test_values_without_a_meaning_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"sampling: .*{message}|sampling: {message}"):
        params(**changes)
