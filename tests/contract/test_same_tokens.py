"""The real model under every policy says what transformers says, whatever moves where meanwhile.

Every logit is compared with transformers' own, given the same tokens before it (teacher forcing);
the chosen token must be transformers' choice wherever that leads by twice the tolerance.
"""

import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apexbench.engine.executors.cpu.sequences import random_prompt
from apexbench.engine.model.config import read_config
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.model.weights import load_weights
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RequestStatus
from tests.checkpoints import ROPES, read_reference, write_checkpoint
from tests.cpu_engine import Spoken, margin, speak
from tests.fickle_policy import FICKLE

TOLERANCE = 1e-4
# Half precision may deviate from fp32 by this many times what transformers' own does.
HALF_SLACK = 2
INT8_TOLERANCE = 1.0  # of logits up to 9
INT8_TOP1 = 0.95
HALVES = {"bf16": "bfloat16", "fp16": "float16"}
POLICIES = (
    "gpu-only", "neo", "apex", "planner", "fastdecode", "static:deferred", "static:two_batch",
    "static:in_layer", FICKLE,
)  # fmt: skip
# The C kernels want heads of 16 elements at least; logits of up to 20, which fp32 resolves.
WIDE = {
    "hidden_size": 96,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"rope_parameters": ROPES["llama3"]},
    "mistral": {"sliding_window": 24, "rope_parameters": ROPES["yarn"]},
    "qwen2": {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
    "qwen3": {"head_dim": 32, "tie_word_embeddings": True},
}
# Blocks of 1 to 64 tokens; room for a few sequences, so that they are offloaded, swapped,
# preempted and deferred mid-token.
POOLS = {
    "blocks of 1 and 8": Pools(80, 400, 1, 8),
    "blocks of 8 and 16": Pools(96, 512, 8, 16),
    "blocks of 16 and 64": Pools(112, 768, 16, 64),
    "blocks of 64": Pools(192, 640, 64, 64),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    for family, own in FAMILIES.items():
        overrides: dict[str, Any] = {**WIDE, **own}
        write_checkpoint(root / family, family, **overrides)
    return root


@cache
def decoder(path: Path, dtype: str) -> Decoder:
    config = read_config(path)
    return Decoder(config, load_weights(path, config, dtype))


@cache
def reference(path: Path, dtype: str = "fp32") -> Any:
    """Computes in fp32 with the weights rounded as ours are."""
    return read_reference(
        path, {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype]
    ).float()


def requests(count: int = 14) -> tuple[Request, ...]:
    rng = random.Random(7)
    return tuple(Request(i, 0, rng.randint(1, 60), rng.randint(2, 24)) for i in range(count))


def forced(request: Request, tokens: list[int], model: Any) -> Tensor:
    """Logits [tokens, vocab] of transformers' `model`, given each time the tokens before."""
    prompt = random_prompt(request, model.config.vocab_size, 0).token_ids
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([[*prompt, *tokens]])).logits[0].float()
    return logits[len(prompt) - 1 : -1]


def check(spoken: Spoken, path: Path, tolerance: float, dtype: str = "fp32") -> int:
    """Every request is complete and right; returns how many choices the margin decided."""
    assert spoken.log is not None
    decided = 0
    for request, record in zip(requests(), spoken.log.requests, strict=True):
        assert record.status is RequestStatus.COMPLETED, record.reason
        tokens = spoken.tokens[request.id]
        assert len(tokens) == request.output_tokens
        expected = forced(request, tokens, reference(path, dtype))
        ours = torch.stack(spoken.logits[request.id])
        torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
        for row, token in zip(expected, tokens, strict=True):
            assert row.max() - row[token] <= 2 * tolerance
            if margin(row) > 2 * tolerance:
                decided += 1
                assert int(row.argmax()) == token
    return decided


def traffic(spoken: Spoken) -> Counter[str]:
    """What happened to sequences in a run, so that no test passes because nothing happened."""
    assert spoken.log is not None
    found: Counter[str] = Counter()
    for record in spoken.log.requests:
        found["swaps"] += record.swaps
        found["preemptions"] += record.preemptions
        found["cpu tokens"] += record.cpu_decode_tokens
    strategies = spoken.log.checkpoints[-1].strategy_steps
    found.update(
        dict(
            zip(("gpu_only", "in_layer", "two_batch", "deferred", "fused"), strategies, strict=True)
        )
    )
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_says_what_transformers_says(folder: Path, family: str, policy: str) -> None:
    pools = POOLS["blocks of 8 and 16"]
    path = folder / family
    spoken = speak(
        decoder(path, "fp32"), requests(), policy, pools, keeps_logits=True, max_batched_tokens=37
    )
    assert check(spoken, path, TOLERANCE) > 100


@pytest.mark.parametrize("blocks", POOLS)
@pytest.mark.parametrize("policy", ["gpu-only", "apex", "static:deferred", FICKLE])
@pytest.mark.parametrize("chunk", [7, 64])
def test_blocks_and_chunks_change_nothing(
    folder: Path, blocks: str, policy: str, chunk: int
) -> None:
    path = folder / "llama"
    spoken = speak(
        decoder(path, "fp32"),
        requests(),
        policy,
        POOLS[blocks],
        keeps_logits=True,
        max_batched_tokens=chunk,
    )
    assert check(spoken, path, TOLERANCE) > 100


def test_the_runs_above_move_and_defer_and_preempt(folder: Path) -> None:
    found: Counter[str] = Counter()
    for policy in POLICIES:
        found += traffic(
            speak(
                decoder(folder / "llama", "fp32"),
                requests(),
                policy,
                POOLS["blocks of 1 and 8"],
                max_batched_tokens=37,
            )
        )
    for what in (
        "swaps",
        "preemptions",
        "cpu tokens",
        "two_batch",
        "deferred",
        "in_layer",
        "fused",
    ):
        assert found[what] > 0, found


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("policy", ["gpu-only", "apex", "static:deferred", FICKLE])
def test_half_precision_by_teacher_forcing(folder: Path, dtype: str, policy: str) -> None:
    path = folder / "llama"
    spoken = speak(
        decoder(path, dtype),
        requests(),
        policy,
        POOLS["blocks of 8 and 16"],
        keeps_logits=True,
        max_batched_tokens=37,
    )
    check(spoken, path, HALF_SLACK * deviation(path, dtype, spoken), dtype)


def deviation(path: Path, dtype: str, spoken: Spoken) -> float:
    """How far transformers in half precision is from itself in fp32, on the same tokens."""
    half, full = read_reference(path, HALVES[dtype]), reference(path, dtype)
    pairs = [
        [forced(request, spoken.tokens[request.id], model) for model in (half, full)]
        for request in requests()
    ]
    return max(float((first - second).abs().max()) for first, second in pairs)


def test_int8_kv_on_the_host_agrees_nearly_always(folder: Path) -> None:
    """One scale per token and head, 127 steps: logits of this model move by up to INT8_TOLERANCE,
    and the best token stays the best for at least INT8_TOP1 of all tokens."""
    path = folder / "llama"
    spoken = speak(
        decoder(path, "fp32"),
        requests(),
        "static:deferred",
        POOLS["blocks of 8 and 16"],
        keeps_logits=True,
        cpu_kv_dtype="int8",
        max_batched_tokens=37,
    )
    check(spoken, path, INT8_TOLERANCE)
    best = [
        int(row.argmax()) == token
        for request in requests()
        for row, token in zip(
            forced(request, spoken.tokens[request.id], reference(path)),
            spoken.tokens[request.id],
            strict=True,
        )
    ]
    assert sum(best) >= INT8_TOP1 * len(best)
    assert traffic(spoken)["cpu tokens"] > 20
