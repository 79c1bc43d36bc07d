import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.models import KV_DTYPES, ModelShape, list_models, shape
from apexbench.errors import InputError, UsageError

# Parameter counts as published with the checkpoints.
PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mistral-7b": 7_248_023_552,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-32b": 32_763_876_352,
}
LLAMA_8B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}
models = st.sampled_from(list_models())


def write_config(folder: Path, **changes: object) -> Path:
    config = {**LLAMA_8B, **changes}
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))
    return path


def test_parameter_counts_are_those_of_the_checkpoints() -> None:
    assert {model.name: model.parameter_count for model in list_models()} == PUBLISHED


@pytest.mark.parametrize(
    ("name", "kib"), [("llama-2-7b", 512), ("llama-3.1-8b", 128), ("qwen2.5-7b", 56)]
)
def test_kv_bytes_per_token(name: str, kib: int) -> None:
    assert shape(name).kv_bytes_per_token("fp16") == kib * 1024


@given(model=models)
def test_quantised_weights_shrink_the_linear_layers_alone(model: ModelShape) -> None:
    fp16, int8, int4 = (model.weight_bytes(dtype) for dtype in ("fp16", "int8", "int4"))
    assert fp16 == 2 * model.parameter_count
    linear = 2 * model.num_layers * model.linear_params_per_layer
    assert fp16 - linear < int4 < int8 < fp16
    # group-128 scales: 0.5 + (2 + 0.5) / 128 bytes a weight
    assert int4 - (fp16 - linear) == pytest.approx(linear / 2 * 0.51953125, abs=1)


@given(model=models, dtype=st.sampled_from(KV_DTYPES))
def test_kv_bytes_add_up_over_layers(model: ModelShape, dtype: str) -> None:
    assert model.kv_bytes_per_token(dtype) == model.num_layers * model.kv_bytes_per_token_layer(
        dtype
    )
    smaller = model.kv_bytes_per_token("int8") / model.kv_bytes_per_token("fp16")
    assert 0.5 < smaller < 0.55  # one fp16 scale per head and token


def test_config_file_and_its_folder_give_the_same_shape(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    from_file, from_folder = shape(str(path)), shape(str(tmp_path))
    assert from_file == from_folder
    assert from_file.parameter_count == PUBLISHED["llama-3.1-8b"]
    assert from_file.source == str(path)


def test_explicit_head_dim_tied_embeddings_and_missing_kv_heads(tmp_path: Path) -> None:
    path = write_config(
        tmp_path, head_dim=64, tie_word_embeddings=True, num_key_value_heads="absent"
    )
    model = shape(str(path))
    assert (model.head_dim, model.num_kv_heads, model.q_size) == (64, 32, 2048)
    untied = shape(str(write_config(tmp_path, head_dim=64, num_key_value_heads=32)))
    assert untied.parameter_count - model.parameter_count == 128256 * 4096


def test_families_differ_in_their_small_parameters(tmp_path: Path) -> None:
    plain = shape(str(write_config(tmp_path))).parameter_count
    qwen2 = shape(str(write_config(tmp_path, model_type="qwen2"))).parameter_count
    qwen3 = shape(str(write_config(tmp_path, model_type="qwen3"))).parameter_count
    biased = shape(str(write_config(tmp_path, attention_bias=True))).parameter_count
    assert qwen2 - plain == 32 * (32 + 2 * 8) * 128
    assert qwen3 - plain == 32 * 2 * 128
    assert biased - qwen2 == 32 * 4096  # the output projection is biased too


def test_unknown_name_lists_near_matches() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'llama-2-7B'; did you mean llama-2-7b"):
        shape("llama-2-7B")


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown weight dtype 'fp8'"):
        shape("llama-2-7b").weight_bytes("fp8")
    with pytest.raises(UsageError, match="unknown KV dtype 'fp32'"):
        shape("llama-2-7b").kv_bytes_per_token("fp32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported"),
        ({"model_type": "absent"}, "model_type None is not supported"),
        ({"hidden_size": "absent"}, "key 'hidden_size' is None; expected a positive integer"),
        ({"num_hidden_layers": -1}, "key 'num_hidden_layers' is -1"),
        ({"vocab_size": True}, "key 'vocab_size' is True"),
        ({"vocab_size": 3.5}, r"key 'vocab_size' is 3\.5"),
        ({"tie_word_embeddings": "yes"}, "expected true or false"),
        ({"num_key_value_heads": 5}, "32 attention heads cannot share 5 KV heads"),
        ({"hidden_size": 8}, "hidden_size 8 is smaller than 32 heads"),
    ],
)
def test_malformed_config_names_file_and_key(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write_config(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        shape(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "\x00"])
def test_file_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"expected a config\.json"):
        shape(str(path))


def test_missing_files_are_input_errors(tmp_path: Path) -> None:
    for missing in (tmp_path / "config.json", tmp_path):
        with pytest.raises(InputError, match="cannot read model config"):
            shape(str(missing))
