import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from apexbench.engine.model.config import read_config
from apexbench.engine.model.weights import Weights, load_weights
from apexbench.errors import InputError, UsageError
from tests.checkpoints import write_checkpoint

SINGLE = "model.safetensors"
QKV = "model.layers.1.self_attn.{}_proj.weight"


def load(path: Path, dtype: str = "fp32") -> Weights:
    return load_weights(path, read_config(path), dtype)


def rewrite(path: Path, **changes: Tensor | None) -> None:
    """The checkpoint with tensors replaced or, where None, taken out."""
    tensors: dict[str, Any] = {**load_file(path / SINGLE), **changes}
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    (path / SINGLE).unlink()  # another file, because the old one may still be mapped
    save_file(kept, path / SINGLE)


def shapes(path: Path) -> dict[str, Tensor]:
    return load_file(path / SINGLE)


def test_matrices_are_stacked_in_their_order(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "qwen2")
    stored, weights = shapes(path), load(path)
    layer = weights.layers[1]
    assert torch.equal(layer.qkv, torch.cat([stored[QKV.format(kind)] for kind in "qkv"]))
    names = [QKV.format(kind).replace("weight", "bias") for kind in "qkv"]
    assert layer.qkv_bias is not None
    assert torch.equal(layer.qkv_bias, torch.cat([stored[name] for name in names]))
    ffn = [stored[f"model.layers.1.mlp.{kind}_proj.weight"] for kind in ("gate", "up")]
    assert torch.equal(layer.gate_up, torch.cat(ffn))
    assert layer.output_bias is layer.qk_norm is layer.down_bias is None


def test_head_norms_repeat_for_every_head(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "qwen3")
    norms = load(path).layers[2].qk_norm
    assert norms is not None
    own = [shapes(path)[f"model.layers.2.self_attn.{kind}_norm.weight"] for kind in "qk"]
    assert torch.equal(norms, torch.cat([own[0].expand(6, 16), own[1].expand(2, 16)]))


@pytest.mark.parametrize("is_tied", [True, False])
def test_shards_give_the_same_weights_as_one_file(tmp_path: Path, is_tied: bool) -> None:
    whole = write_checkpoint(tmp_path / "one", "llama", tie_word_embeddings=is_tied)
    split = write_checkpoint(
        tmp_path / "many", "llama", tie_word_embeddings=is_tied, max_shard_size="20KB"
    )
    assert len(list(split.glob("*.safetensors"))) > 3
    first, second = load(whole), load(split)
    assert (first.head is first.embedding) == is_tied
    assert first.num_bytes == second.num_bytes == 4 * read_config(whole).shape.parameter_count
    assert torch.equal(first.embedding, second.embedding)
    assert torch.equal(first.head, second.head)
    for one, other in zip(first.layers, second.layers, strict=True):
        assert torch.equal(one.qkv, other.qkv)
        assert torch.equal(one.down, other.down)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_weights_are_converted(tmp_path: Path, dtype: str, expected: torch.dtype) -> None:
    path = write_checkpoint(tmp_path, "llama", dtype="bfloat16")
    weights = load(path, dtype)
    assert weights.dtype == weights.layers[0].down.dtype == expected
    stored = shapes(path)["model.norm.weight"]
    assert torch.equal(weights.norm, stored.to(expected))


def test_weights_outlive_their_file(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    weights = load(path)
    before = weights.layers[0].down.clone()
    with (path / SINGLE).open("r+b") as file:
        file.write(bytes((path / SINGLE).stat().st_size))
    assert torch.equal(weights.layers[0].down, before)


def test_progress_grows_to_the_bytes_of_the_tensors(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "qwen3", dtype="bfloat16")
    seen: list[tuple[int, int]] = []
    config = read_config(path)
    load_weights(path, config, "fp32", lambda done, total: seen.append((done, total)))
    total = 2 * config.shape.parameter_count
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 3 * config.shape.num_layers


def test_unknown_dtype(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    with pytest.raises(UsageError, match="unknown dtype 'float16'; did you mean fp16"):
        load(path, "float16")


def refusal(path: Path) -> str:
    """The one sentence a folder is refused with."""
    with pytest.raises(InputError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    rewrite(path, **{QKV.format("k"): None})
    assert refusal(path) == f"model folder '{path}' has no tensor {QKV.format('k')}"


def test_a_tensor_of_another_shape_is_named_with_its_file(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    rewrite(path, **{QKV.format("k"): torch.zeros(17, 48)})
    assert refusal(path) == (
        f"'{path / SINGLE}': tensor {QKV.format('k')} has shape [17, 48]; config.json says [16, 48]"
    )


def test_a_tensor_that_is_no_float_is_named(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    rewrite(path, **{QKV.format("v"): torch.zeros(16, 48, dtype=torch.int8)})
    assert f"tensor {QKV.format('v')} is I8; expected F64, F32, BF16, F16" in refusal(path)


@pytest.mark.parametrize("kept", [0, 5, 100, -1, -1000])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    path = write_checkpoint(tmp_path, "llama")
    data = (path / SINGLE).read_bytes()
    (path / SINGLE).unlink()
    (path / SINGLE).write_bytes(data[:kept])
    message = refusal(path)
    assert message.startswith(f"'{path / SINGLE}' is no complete safetensors file")
    assert message.endswith("; download it again")


def test_a_missing_shard_and_a_shard_without_its_tensor(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama", max_shard_size="20KB")
    shard = sorted(path.glob("*.safetensors"))[1]
    name = next(iter(load_file(shard)))
    rest = {key: value for key, value in load_file(shard).items() if key != name}
    shard.unlink()
    assert f"'{shard}' is missing, though model.safetensors.index.json names it" in refusal(path)
    save_file(rest, shard)
    assert refusal(path) == f"'{shard}' has no tensor {name}, though it should"


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_is_none(tmp_path: Path, index: str) -> None:
    path = write_checkpoint(tmp_path, "llama")
    (path / f"{SINGLE}.index.json").write_text(index)
    assert refusal(path).endswith("is not an index of safetensors files")


def test_folders_without_weights(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "m", "llama")
    config = read_config(path)
    (path / SINGLE).unlink()
    assert refusal(path).endswith(f"has neither {SINGLE} nor {SINGLE}.index.json")
    with pytest.raises(InputError, match="is not a model folder; expected one with model"):
        load_weights(tmp_path / "none", config, "fp32")


def test_extra_tensors_are_ignored(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama", tie_word_embeddings=True)
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    rewrite(path, **extra, **{"lm_head.weight": torch.zeros(199, 48)})
    weights = load(path)
    assert weights.head is weights.embedding  # tied by the config, as transformers has it


def test_everything_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    rewrite(path, **{"lm_head.weight": torch.zeros(3, 48)})
    calls: list[tuple[int, int]] = []
    with pytest.raises(InputError, match=r"lm_head\.weight"):
        load_weights(path, read_config(path), "fp32", lambda *call: calls.append(call))
    assert calls == []


def test_an_index_may_live_beside_shards_of_any_name(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, "llama")
    (path / SINGLE).rename(path / "weights.safetensors")
    names = dict.fromkeys(load_file(path / "weights.safetensors"), "weights.safetensors")
    (path / f"{SINGLE}.index.json").write_text(json.dumps({"weight_map": names}))
    assert load(path).num_bytes == 4 * read_config(path).shape.parameter_count
