import json
from pathlib import Path
from typing import Any

import pytest

from apexbench.engine.model.config import check_prompt, read_config
from apexbench.engine.model.rope_config import RopeConfig
from apexbench.engine.models import list_models, shape
from apexbench.errors import InputError, UsageError
from tests.checkpoints import FAMILIES, OWN, SMALL, write_checkpoint


def write_config(folder: Path, family: str = "llama", **changes: Any) -> Path:
    keys = {"model_type": family, **SMALL, **OWN[family], **changes}
    path = folder / "config.json"
    path.write_text(json.dumps({key: value for key, value in keys.items() if value != "absent"}))
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_that_transformers_writes(tmp_path: Path, family: str) -> None:
    config = read_config(write_checkpoint(tmp_path, family))
    assert config.family == family
    assert config.shape == shape(str(tmp_path))
    assert (config.shape.num_layers, config.shape.vocab_size) == (3, 199)
    assert config.shape.head_dim == (16 if family == "qwen3" else 8)
    assert (config.has_qkv_bias, config.has_output_bias) == (family == "qwen2", False)
    assert config.has_qk_norm == (family == "qwen3")
    assert config.windows == (0, 0, 0)
    assert (config.norm_eps, config.stored_dtype) == (1e-6, "float32")
    assert (config.eos_token_ids, config.max_length) == ((2,), 128)


def test_a_file_and_its_folder_are_the_same(tmp_path: Path) -> None:
    folder = write_config(tmp_path)
    assert read_config(folder / "config.json") == read_config(folder)


def test_built_in_shapes_have_configs_for_dummy_weights() -> None:
    for model in list_models():
        config = read_config(model.name)
        assert config.shape == model
        assert config.has_qkv_bias == model.name.startswith("qwen2.5")
        assert (config.rope, set(config.windows)) == (RopeConfig(), {0})
    with pytest.raises(UsageError, match="unknown model 'llama-2-7B'"):
        read_config("llama-2-7B")


@pytest.mark.parametrize(
    ("family", "changes", "windows"),
    [
        ("mistral", {"sliding_window": 7}, (7, 7, 7)),
        ("mistral", {"sliding_window": None}, (0, 0, 0)),
        ("mistral", {"sliding_window": "absent"}, (4096, 4096, 4096)),
        ("llama", {"sliding_window": 7, "use_sliding_window": True}, (0, 0, 0)),
        ("qwen2", {"sliding_window": 7}, (0, 0, 0)),
        ("qwen2", {"sliding_window": 7, "use_sliding_window": False}, (0, 0, 0)),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}, (0, 4096, 4096)),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 7}, (0, 0, 0)),
        (
            "qwen3",
            {
                "use_sliding_window": True,
                "sliding_window": 7,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (7, 0, 7),
        ),
    ],
)
def test_windows_follow_each_family(
    tmp_path: Path, family: str, changes: dict[str, Any], windows: tuple[int, ...]
) -> None:
    config = read_config(write_config(tmp_path, family, **changes))
    assert config.windows == windows
    assert config.window_of(2) == windows[2]


def test_end_tokens_of_generation_config_win(tmp_path: Path) -> None:
    write_config(tmp_path, eos_token_id=[5, 6])
    assert read_config(tmp_path).eos_token_ids == (5, 6)
    generation = tmp_path / "generation_config.json"
    generation.write_text('{"eos_token_id": [7, 8, 9]}')
    assert read_config(tmp_path).eos_token_ids == (7, 8, 9)
    generation.write_text("{}")
    assert read_config(tmp_path).eos_token_ids == (5, 6)
    generation.write_text("[]")
    with pytest.raises(InputError, match=r"generation_config\.json' is not a JSON object"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported; supported: llama"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised checkpoints are not"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported; expected silu"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "expected a CausalLM"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
        ({"rms_norm_eps": 0}, "key 'rms_norm_eps' is 0; expected a positive number"),
        ({"attention_bias": 1}, "key 'attention_bias' is 1; expected true or false"),
        ({"eos_token_id": "</s>"}, "key 'eos_token_id' is '</s>'; expected token ids"),
        ({"eos_token_id": [True]}, "expected token ids"),
        ({"architectures": "LlamaForCausalLM"}, "expected a list of names"),
        ({"rope_scaling": 4}, "key 'rope_scaling' is 4; expected an object"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_config(write_config(tmp_path, **changes))
    assert str(tmp_path / "config.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sliding_window": -1}, "key 'sliding_window' is -1; expected an integer of at least 0"),
        ({"layer_types": ["full_attention"]}, "layer_types has 1 entries for 3 layers"),
        ({"layer_types": ["linear_attention"] * 3}, "layer type 'linear_attention'"),
    ],
)
def test_windows_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_config(write_config(tmp_path, "qwen2", use_sliding_window=True, **changes))


def test_prompts_are_checked_against_the_model(tmp_path: Path) -> None:
    config = read_config(write_config(tmp_path))
    check_prompt(config, [0, 198], 127)
    check_prompt(config, [1] * 128, 1)
    with pytest.raises(InputError, match="need 129 positions but the model has 128; shorten"):
        check_prompt(config, [0, 198], 128)
    with pytest.raises(InputError, match="the prompt has no tokens"):
        check_prompt(config, [], 1)
    for ids in ([199], [3, -1]):
        with pytest.raises(InputError, match=r"token ids outside 0\.\.198"):
            check_prompt(config, ids, 1)
