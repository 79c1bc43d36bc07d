"""The decoder over a paged pool against transformers on the same checkpoints."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apexbench.engine.model.config import read_config
from tests.checkpoints import FAMILIES, ROPES, read_reference, write_checkpoint
from tests.unit.engine.model.model_runs import PagedRun, open_decoder

TOLERANCE = 1e-4  # fp32 logits, whose standard deviation is about 2
MARGIN = 1e-3  # greedy tokens must agree where the best logit leads by more
# Reductions in another order, as a share of the logits' standard deviation (RMS).
LOW_PRECISION = {"bfloat16": 0.08, "float16": 0.01}
NEW_TOKENS = 24
SHORT_DTYPE = {"bfloat16": "bf16", "float16": "fp16"}

Writer = Callable[..., Path]
# Longer than the windows, than the blocks and than what dynamic, llama3 and yarn scale.
PROMPT = [(37 * index + 11) % 190 + 3 for index in range(37)]
# What the families can differ in, beyond their defaults.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biased": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide-heads": ("llama", {"head_dim": 20}),
    "llama-mha": ("llama", {"num_key_value_heads": 6}),
    "llama-mqa": ("llama", {"num_key_value_heads": 1}),
    "mistral-window": ("mistral", {"sliding_window": 11}),
    "mistral-window-2": ("mistral", {"sliding_window": 2}),
    "qwen2-window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen2-layer-types": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 13,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3-biased-tied": ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    "qwen3-window": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    ),
}
ROPE_CASES = [
    pytest.param(family, {"rope_parameters": dict(rope), **extra}, id=f"{family}-{kind}")
    for family in FAMILIES
    for kind, rope in ROPES.items()
    # dynamic scaling starts beyond the stated length: within the prompt, or only while decoding
    for extra in ([{"max_position_embeddings": 16}] if kind == "dynamic" else [{}])
]
VARIANT_CASES = [
    pytest.param(family, overrides, id=name) for name, (family, overrides) in VARIANTS.items()
]
LATE_DYNAMIC = pytest.param(
    "llama",
    {"max_position_embeddings": 45, "rope_parameters": dict(ROPES["dynamic"])},
    id="llama-dynamic-late",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    written: dict[str, Path] = {}

    def write(family: str, **overrides: Any) -> Path:
        key = json.dumps([family, overrides])
        if key not in written:
            written[key] = write_checkpoint(tmp_path_factory.mktemp(family), family, **overrides)
        return written[key]

    return write


@torch.no_grad()
def reference_logits(path: Path, tokens: list[int], dtype: str = "float32") -> Tensor:
    logits: Tensor = read_reference(path, dtype)(torch.tensor([tokens])).logits[0].float()
    return logits


def generated(path: Path) -> tuple[list[int], Tensor]:
    """Greedy tokens of transformers and the logits each was chosen from."""
    model = read_reference(path)
    model.generation_config.eos_token_id = None
    result = model.generate(
        torch.tensor([PROMPT]),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return result.sequences[0, len(PROMPT) :].tolist(), torch.cat(result.logits)


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@pytest.mark.parametrize(("family", "overrides"), [*ROPE_CASES, *VARIANT_CASES, LATE_DYNAMIC])
def test_prefill_and_decode_logits_are_those_of_transformers(
    checkpoint: Writer, family: str, overrides: dict[str, Any]
) -> None:
    path = checkpoint(family, **overrides)
    tokens, logits = generated(path)
    run = PagedRun(open_decoder(path))
    sequence, prompt_logits = run.prefill(PROMPT, chunk=7)
    assert worst(prompt_logits, reference_logits(path, PROMPT)) < TOLERANCE
    assert worst(prompt_logits[-1], logits[0]) < TOLERANCE
    for step, token in enumerate(tokens[:-1]):
        assert worst(run.decode([sequence], [token])[0], logits[step + 1]) < TOLERANCE


@pytest.mark.parametrize("block_size", [1, 16, 64])
@pytest.mark.parametrize("chunk", [1, 5, 16, 37])
def test_blocks_and_chunks_do_not_matter(checkpoint: Writer, block_size: int, chunk: int) -> None:
    path = checkpoint("mistral", sliding_window=11)
    run = PagedRun(open_decoder(path), block_size, num_blocks=128 // block_size)
    sequence, prompt_logits = run.prefill(PROMPT, chunk)
    rest = [5, 6, 7]
    decoded = torch.cat([run.decode([sequence], [token]) for token in rest])
    expected = reference_logits(path, PROMPT + rest)
    assert worst(torch.cat([prompt_logits, decoded]), expected) < TOLERANCE


@pytest.mark.parametrize("family", FAMILIES)
def test_free_running_greedy_tokens_are_those_of_transformers(
    checkpoint: Writer, family: str
) -> None:
    path = checkpoint(family)
    tokens, logits = generated(path)
    best = logits.topk(2).values
    clear = (best[:, 0] - best[:, 1] > MARGIN).tolist()
    first_unclear = clear.index(False) if False in clear else len(clear)
    assert first_unclear >= 20  # otherwise this checkpoint proves nothing
    run = PagedRun(open_decoder(path), block_size=4)
    sequence, prompt_logits = run.prefill(PROMPT, chunk=13)
    own = [int(prompt_logits[-1].argmax())]
    while len(own) < first_unclear:
        own.append(int(run.decode([sequence], own[-1:])[0].argmax()))
    assert own == tokens[:first_unclear]
    assert len(set(own)) > 5  # and is not stuck on a few tokens


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_low_precision_is_as_near_to_fp32_as_transformers_is(
    checkpoint: Writer, family: str, stored: str
) -> None:
    path = checkpoint(family, dtype=stored)
    tokens = PROMPT + PROMPT[::-1]
    exact = reference_logits(path, tokens)
    theirs = reference_logits(path, tokens, stored) - exact
    run = PagedRun(open_decoder(path, SHORT_DTYPE[stored]))
    sequence, logits = run.prefill(PROMPT, chunk=10)
    decoded = [run.decode([sequence], [token]) for token in PROMPT[::-1]]
    ours = torch.cat([logits, *decoded]) - exact
    error = float(ours.square().mean().sqrt())
    assert 0 < error < LOW_PRECISION[stored] * float(exact.std())
    assert error < 1.2 * float(theirs.square().mean().sqrt())


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 33), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_rows_of_many_sequences_do_not_influence_each_other(
    checkpoint: Writer, lengths: list[int], seed: int
) -> None:
    path = checkpoint("qwen3", rope_parameters=dict(ROPES["dynamic"]), max_position_embeddings=16)
    decoder = open_decoder(path)
    prompts = [PROMPT[:length] for length in lengths]
    batch = PagedRun(decoder, block_size=8, seed=seed)
    sequences = [batch.prefill(prompt, chunk=9)[0] for prompt in prompts]
    tokens = list(range(3, 3 + len(prompts)))
    together = batch.decode(sequences, tokens)
    for index, prompt in enumerate(prompts):
        alone = PagedRun(decoder, block_size=8)
        sequence, _ = alone.prefill(prompt, chunk=64)
        assert (
            worst(together[index], alone.decode([sequence], tokens[index : index + 1])[0])
            < TOLERANCE
        )


def test_pre_takes_rows_of_any_sequences_and_leaves_its_input_alone(checkpoint: Writer) -> None:
    decoder = open_decoder(checkpoint("qwen2"))
    hidden = decoder.embed(torch.tensor([5, 6, 7, 8]))
    before = hidden.clone()
    positions, lengths = torch.tensor([0, 9, 3, 40]), torch.tensor([20, 20, 5, 41])
    mixed = decoder.pre(1, hidden, positions, lengths)
    for row in range(4):
        one = slice(row, row + 1)
        alone = decoder.pre(1, hidden[one], positions[one], lengths[one])
        for part, own in zip(mixed, alone, strict=True):
            assert worst(part[one], own) < 1e-5
    assert torch.equal(hidden, before)
    decoder.post(1, hidden, torch.zeros(4, 48))
    assert torch.equal(hidden, before)


def test_shapes_and_dtypes_at_the_seam(checkpoint: Writer) -> None:
    decoder = open_decoder(checkpoint("qwen3", dtype="bfloat16"), "bf16")
    hidden = decoder.embed(torch.tensor([4, 5]))
    q, k, v = decoder.pre(0, hidden, torch.tensor([0, 1]), torch.tensor([2, 2]))
    assert (tuple(q.shape), tuple(k.shape), tuple(v.shape)) == ((2, 6, 16), (2, 2, 16), (2, 2, 16))
    assert {q.dtype, k.dtype, v.dtype, hidden.dtype} == {torch.bfloat16}
    logits = decoder.head(decoder.post(0, hidden, q.flatten(1)))
    assert (tuple(logits.shape), logits.dtype) == ((2, 199), torch.float32)
    assert decoder.softmax_scale == 0.25
    assert read_config(checkpoint("qwen3", dtype="bfloat16")).stored_dtype == "bfloat16"
