from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apexbench.engine.model.config import ModelConfig, read_config
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.model.dummy import dummy_weights
from apexbench.engine.model.weights import Weights, load_weights
from apexbench.errors import UsageError
from tests.checkpoints import write_checkpoint
from tests.unit.engine.model.model_runs import PagedRun

CASES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("qwen2", {"tie_word_embeddings": True}),
    ("qwen3", {"num_hidden_layers": 24}),
]


def tensors(weights: Weights) -> list[Tensor]:
    found = [weights.embedding, weights.norm, weights.head]
    for layer in weights.layers:
        values = (getattr(layer, field.name) for field in fields(layer))
        found += [value for value in values if value is not None]
    return found


def config_of(folder: Path, family: str, **overrides: Any) -> ModelConfig:
    return read_config(write_checkpoint(folder, family, **overrides))


@pytest.mark.parametrize(("family", "overrides"), CASES)
def test_shapes_are_those_of_a_real_checkpoint(
    tmp_path: Path, family: str, overrides: dict[str, Any]
) -> None:
    config = config_of(tmp_path, family, **overrides)
    real, dummy = load_weights(tmp_path, config, "bf16"), dummy_weights(config, "bf16", seed=0)
    assert [t.shape for t in tensors(dummy)] == [t.shape for t in tensors(real)]
    assert dummy.num_bytes == real.num_bytes
    assert dummy.dtype == torch.bfloat16
    assert (dummy.head is dummy.embedding) == config.shape.tie_embeddings


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("family", "overrides"), CASES)
def test_logits_are_sane(
    tmp_path: Path, family: str, overrides: dict[str, Any], dtype: str
) -> None:
    config = config_of(tmp_path, family, **overrides)
    run = PagedRun(Decoder(config, dummy_weights(config, dtype, seed=3)))
    _, logits = run.prefill(list(range(3, 43)), chunk=40)
    assert logits.isfinite().all()
    assert 1.5 < float(logits.std()) < 6
    assert 0.01 < float(logits.softmax(dim=-1).amax(dim=-1).mean()) < 0.9
    assert len(set(logits.argmax(dim=-1).tolist())) > 5


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path: Path) -> None:
    config = config_of(tmp_path, "llama")
    first, second, other = (dummy_weights(config, "fp16", seed) for seed in (1, 1, 2))
    pairs = list(zip(tensors(first), tensors(second), strict=True))
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(first.embedding, other.embedding)


def test_no_two_matrices_or_rows_are_alike(tmp_path: Path) -> None:
    # wider than the block that is repeated: every row continues where the one before it ended
    config = config_of(tmp_path, "llama", hidden_size=1536, intermediate_size=3072, vocab_size=97)
    layers = dummy_weights(config, "fp32", seed=0).layers
    assert layers[0].gate_up.numel() > 4_194_301
    assert len({tuple(row[:8].tolist()) for row in layers[0].gate_up}) == 2 * 3072
    assert not torch.equal(layers[0].qkv, layers[1].qkv)
    assert float(layers[0].gate_up.std()) * 1536**0.5 == pytest.approx(1, abs=0.01)


def test_unknown_dtype() -> None:
    with pytest.raises(UsageError, match="unknown dtype 'int8'"):
        dummy_weights(read_config("llama-2-7b"), "int8", seed=0)
