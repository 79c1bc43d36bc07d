"""Frequencies bit by bit as transformers computes them, at lengths where a last bit matters."""

from pathlib import Path
from typing import Any

import pytest
import torch

from apexbench.engine.model.config_keys import ConfigKeys
from apexbench.engine.model.rope import Rope
from apexbench.engine.model.rope_config import RopeConfig, read_rope
from apexbench.errors import InputError
from tests.checkpoints import ROPES, transformers

HEAD_DIM = 64
POSITIONS = [0, 1, 31, 4095, 131_071, 1_000_003]
YARN = ROPES["yarn"]
CASES: dict[str, dict[str, Any]] = {
    **ROPES,
    "theta": {"rope_type": "default", "rope_theta": 5e5},
    "llama3.1": {**ROPES["llama3"], "rope_theta": 5e5, "original_max_position_embeddings": 8192},
    "yarn-mscale": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    "yarn-one-mscale": {**YARN, "mscale": 0.7},
    "yarn-attention": {**YARN, "attention_factor": 0.5},
    "yarn-betas": {**YARN, "beta_fast": 20.0, "beta_slow": 2.0},
    "yarn-untruncated": {**YARN, "truncate": False, "original_max_position_embeddings": 4096},
    "yarn-long": {**YARN, "rope_theta": 1e6, "original_max_position_embeddings": 32768},
    "yarn-shrunk": {**YARN, "factor": 0.5},
}


def config_of(max_position: int, rope: dict[str, Any]) -> Any:
    return transformers().AutoConfig.for_model(
        "llama",
        hidden_size=2 * HEAD_DIM,
        num_attention_heads=2,
        max_position_embeddings=max_position,
        rope_parameters=dict(rope),
    )


def keys(**data: object) -> ConfigKeys:
    return ConfigKeys(Path("config.json"), data)


@pytest.mark.parametrize("name", CASES)
def test_sines_and_cosines_are_those_of_transformers(name: str) -> None:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    rope = CASES[name]
    positions = torch.tensor(POSITIONS)
    module = LlamaRotaryEmbedding(config_of(128, rope))
    own = Rope(read_rope(keys(rope_parameters=rope), 128), HEAD_DIM, torch.device("cpu"))
    # dynamic scaling goes by the longest position of a call, so each is asked for alone
    for position in positions[:, None]:
        cosine, sine = module(torch.zeros(1), position[None])
        rotation = own.rotation(position, position + 1, torch.float32)
        assert torch.equal(rotation._cosine[0], cosine[0])
        assert torch.equal(rotation._sine[0], sine[0])


def test_dynamic_rows_depend_on_their_own_length_alone() -> None:
    rope = Rope(RopeConfig("dynamic", 1e4, 2.0, 16), HEAD_DIM, torch.device("cpu"))
    short, long = torch.tensor([5]), torch.tensor([5])
    plain = Rope(RopeConfig(), HEAD_DIM, torch.device("cpu")).rotation(short, short, torch.float32)
    mixed = rope.rotation(torch.tensor([5, 5, 5]), torch.tensor([6, 16, 17]), torch.float32)
    assert torch.equal(mixed._cosine[0], plain._cosine[0])
    assert torch.equal(mixed._cosine[1], plain._cosine[0])
    alone = rope.rotation(long, torch.tensor([17]), torch.float32)
    assert torch.equal(mixed._cosine[2], alone._cosine[0])
    assert not torch.equal(alone._cosine[0], plain._cosine[0])


@pytest.mark.parametrize("kind", ROPES)
def test_old_and_new_spelling_mean_the_same(kind: str) -> None:
    new = ROPES[kind]
    scaling = {key: value for key, value in new.items() if key != "rope_theta"}
    older = {"type" if key == "rope_type" else key: value for key, value in scaling.items()}
    expected = read_rope(keys(rope_parameters=new), 128)
    assert expected.kind == kind
    assert read_rope(keys(rope_scaling=scaling, rope_theta=10000.0), 128) == expected
    assert read_rope(keys(rope_scaling=older, rope_theta=10000), 128) == expected


def test_a_silent_config_is_plain() -> None:
    assert read_rope(keys(), 128) == RopeConfig("default", 10000.0)
    assert read_rope(keys(rope_theta=5e5, rope_scaling=None), 128) == RopeConfig("default", 5e5)


def test_an_original_length_beside_the_section_wins() -> None:
    rope = read_rope(keys(rope_parameters=YARN, original_max_position_embeddings=64), 128)
    assert rope.original_max_position == 64
    silent = {key: value for key, value in YARN.items() if not key.startswith("original")}
    assert read_rope(keys(rope_parameters=silent), 128).original_max_position == 128


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("default", 128), ("linear", 320), ("dynamic", 217), ("llama3", 128), ("yarn", 128)],
)
def test_longest_sequence(kind: str, expected: int) -> None:
    assert read_rope(keys(rope_parameters=ROPES[kind]), 128).longest(128) == expected


def test_yarn_stretches_a_stated_length_that_is_not_scaled_yet() -> None:
    # Qwen2.5 states 32768 and asks for four times as much
    assert read_rope(keys(rope_parameters=YARN), 32).longest(32) == 128


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rope_type": "longrope"}, "rope type 'longrope' is not supported; supported: default"),
        ({"type": "mrope"}, "rope type 'mrope' is not supported"),
        ({"rope_type": "linear"}, "key 'factor' is None; expected a positive number"),
        ({"rope_type": "linear", "factor": float("nan")}, "key 'factor' is nan"),
        ({"rope_type": "linear", "factor": True}, "key 'factor' is True"),
        ({"rope_type": "default", "rope_theta": -1}, "key 'rope_theta' is -1"),
        ({"rope_type": "yarn", "rope_theta": 1}, "'rope_theta' is 1.0; expected a base above 1"),
        ({"rope_type": "linear", "factor": 10**400}, "expected a positive number"),
        ({"rope_type": "default", "partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({**ROPES["llama3"], "high_freq_factor": 1.0}, "must be above low_freq_factor"),
        ({"full_attention": {"rope_type": "default"}}, "scaled per kind of layer"),
    ],
)
def test_what_is_not_supported_is_one_sentence(section: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_rope(keys(rope_parameters=section), 128)
    assert "'config.json'" in str(caught.value)
