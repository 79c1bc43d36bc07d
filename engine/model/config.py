"""What a decoder must know of a checkpoint besides its shape. Holds no weights, needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apexbench.engine.model.config_keys import ConfigKeys, read_keys
from apexbench.engine.model.rope_config import RopeConfig, read_rope
from apexbench.engine.models import ModelShape, list_models, shape
from apexbench.errors import InputError

_DEFAULT_NORM_EPS = 1e-6
# Class defaults of Transformers for keys that an old config.json may lack.
_DEFAULT_WINDOW = 4096
_DEFAULT_MAX_WINDOW_LAYERS = 28


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder of the Llama family: its shape and what families do differently.

    `windows` has one entry per layer: how many tokens a row sees, itself included; 0 for all.
    `eos_token_ids` end a sequence; `stored_dtype` is the checkpoint's own, such as "bfloat16".
    """

    shape: ModelShape
    family: str
    norm_eps: float
    rope: RopeConfig
    windows: tuple[int, ...]
    has_qkv_bias: bool = False
    has_output_bias: bool = False
    has_ffn_bias: bool = False
    has_qk_norm: bool = False
    eos_token_ids: tuple[int, ...] = ()
    stored_dtype: str | None = None

    @property
    def max_length(self) -> int:
        """Most tokens of a sequence, prompt and output together."""
        return self.rope.longest(self.shape.max_position)

    def window_of(self, layer: int) -> int:
        """How many tokens a row of this layer sees, itself included; 0 for all."""
        return self.windows[layer]


def read_config(name_or_path: str | Path) -> ModelConfig:
    """The config of a model folder, of its config.json, or of a built-in shape (for dummy weights).

    Raises InputError for a file that cannot be used, with one sentence naming the key; UsageError
    for an unknown name.
    """
    name = str(name_or_path)
    model = shape(name)
    if model in list_models():
        return config_of(model)
    path = Path(name)
    return _parse(read_keys(path / "config.json" if path.is_dir() else path), model)


def config_of(model: ModelShape) -> ModelConfig:
    """A built-in shape as a config with plain positions and no window: good for dummy weights."""
    has_bias = model.small_params_per_layer > 0
    return ModelConfig(
        shape=model,
        family="qwen2" if has_bias else "llama",
        norm_eps=_DEFAULT_NORM_EPS,
        rope=RopeConfig(),
        windows=(0,) * model.num_layers,
        has_qkv_bias=has_bias,
    )


def check_prompt(config: ModelConfig, token_ids: Sequence[int], max_new_tokens: int) -> None:
    """InputError unless the model can take this prompt and `max_new_tokens` tokens after it."""
    if not token_ids:
        raise InputError("the prompt has no tokens; give at least one")
    vocabulary = config.shape.vocab_size
    if not 0 <= min(token_ids) <= max(token_ids) < vocabulary:
        raise InputError(f"the prompt has token ids outside 0..{vocabulary - 1} of the model")
    # the last token produced is never fed back, so it takes no position
    needed = len(token_ids) + max_new_tokens - 1
    if needed > config.max_length:
        raise InputError(
            f"a prompt of {len(token_ids)} tokens and {max_new_tokens} new ones need {needed} "
            f"positions but the model has {config.max_length}; shorten one of them"
        )


def _parse(keys: ConfigKeys, model: ModelShape) -> ModelConfig:
    _refuse_unsupported(keys, model)
    family = str(keys.data["model_type"])
    has_bias = family in ("llama", "qwen3") and keys.flag("attention_bias")
    return ModelConfig(
        shape=model,
        family=family,
        norm_eps=keys.positive("rms_norm_eps", _DEFAULT_NORM_EPS),
        rope=read_rope(keys, model.max_position),
        windows=_windows(keys, family, model.num_layers),
        has_qkv_bias=has_bias or family == "qwen2",
        has_output_bias=has_bias,
        has_ffn_bias=family == "llama" and keys.flag("mlp_bias"),
        has_qk_norm=family == "qwen3",
        eos_token_ids=_eos(keys),
        stored_dtype=_stored_dtype(keys),
    )


def _refuse_unsupported(keys: ConfigKeys, model: ModelShape) -> None:
    if keys.data.get("quantization_config") is not None:
        raise keys.error("quantised checkpoints are not supported; expected fp32, bf16 or fp16")
    activation = keys.data.get("hidden_act", "silu")
    if activation != "silu":
        raise keys.error(f"hidden_act {activation!r} is not supported; expected silu")
    kinds = keys.names("architectures")
    if kinds and not any(kind.endswith("ForCausalLM") for kind in kinds):
        raise keys.error(f"architecture {', '.join(kinds)} is not supported; expected a CausalLM")
    if model.head_dim % 2:
        raise keys.error(f"head_dim {model.head_dim} is odd; rotary positions need an even one")


def _windows(keys: ConfigKeys, family: str, num_layers: int) -> tuple[int, ...]:
    """Windows per layer by each family's rule, as Transformers has them."""
    if family == "mistral":
        return (_stated_window(keys),) * num_layers
    if family == "llama" or not keys.flag("use_sliding_window"):
        return (0,) * num_layers
    window = _stated_window(keys)
    kinds = keys.names("layer_types") or _kinds_by_depth(keys, num_layers)
    if len(kinds) != num_layers:
        raise keys.error(f"layer_types has {len(kinds)} entries for {num_layers} layers")
    return tuple(_window(keys, kind, window) for kind in kinds)


def _stated_window(keys: ConfigKeys) -> int:
    """Null means none; an absent key means the default of the first release."""
    return keys.integer("sliding_window", 0 if "sliding_window" in keys.data else _DEFAULT_WINDOW)


def _kinds_by_depth(keys: ConfigKeys, num_layers: int) -> tuple[str, ...]:
    first = keys.integer("max_window_layers", _DEFAULT_MAX_WINDOW_LAYERS)
    return tuple(
        "sliding_attention" if layer >= first else "full_attention" for layer in range(num_layers)
    )


def _window(keys: ConfigKeys, kind: str, window: int) -> int:
    if kind not in ("sliding_attention", "full_attention"):
        raise keys.error(f"layer type {kind!r} is not supported")
    return window if kind == "sliding_attention" else 0


def _eos(keys: ConfigKeys) -> tuple[int, ...]:
    """End tokens; generation_config.json, where present, knows those of chat models as well."""
    path = keys.path.parent / "generation_config.json"
    generation = read_keys(path).token_ids("eos_token_id") if path.exists() else ()
    return generation or keys.token_ids("eos_token_id")


def _stored_dtype(keys: ConfigKeys) -> str | None:
    """`dtype` since Transformers 5, `torch_dtype` before."""
    value = keys.data.get("dtype") or keys.data.get("torch_dtype")
    return value if isinstance(value, str) else None
