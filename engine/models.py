"""Shapes of decoder-only transformers: counts and bytes. Holds no weights and runs nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from apexbench.errors import InputError, unknown_name

WEIGHT_DTYPES = ("fp16", "int8", "int4")
KV_DTYPES = ("fp16", "bf16", "int8")

# Weight-only quantisation keeps one fp16 scale per 128 weights of an output column; int4 adds a
# packed 4-bit zero point per group (the AWQ and GPTQ checkpoint layout).
QUANT_GROUP = 128
_FP16_BYTES = 2
_BYTES_PER_WEIGHT = {
    "fp16": 2.0,
    "int8": 1.0 + 2.0 / QUANT_GROUP,
    "int4": 0.5 + 2.5 / QUANT_GROUP,
}
# int8 KV keeps one fp16 scale per token, head and side (K or V).
_INT8_KV_SCALE_BYTES = 2
_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Dimensions of a decoder with gated FFN, rotary positions and grouped-query attention.

    `small_params_per_layer` counts attention biases and per-head norms, which few families have.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position: int
    tie_embeddings: bool
    source: str
    small_params_per_layer: int = 0

    @property
    def q_size(self) -> int:
        """Width of the queries of one token in one layer (elements)."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of K (or V) of one token in one layer (elements)."""
        return self.num_kv_heads * self.head_dim

    @property
    def is_gqa(self) -> bool:
        """Whether several query heads share one KV head."""
        return self.num_kv_heads < self.num_heads

    @property
    def linear_params_per_layer(self) -> int:
        """Weights of the projections of one layer: QKV, output, gate, up, down."""
        attention = self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
        return attention + 3 * self.hidden_size * self.intermediate_size

    @property
    def parameter_count(self) -> int:
        """All parameters, a tied embedding counted once."""
        return self._linear_params + self._unquantised_params

    @property
    def _linear_params(self) -> int:
        return self.num_layers * self.linear_params_per_layer

    @property
    def _unquantised_params(self) -> int:
        vocab_matrices = 1 if self.tie_embeddings else 2
        norms = (2 * self.num_layers + 1) * self.hidden_size
        small = self.num_layers * self.small_params_per_layer
        return vocab_matrices * self.vocab_size * self.hidden_size + norms + small

    def weight_bytes(self, dtype: str) -> int:
        """Bytes of the weights; embeddings, LM head, norms and biases stay fp16."""
        linear = self._linear_params * bytes_per_weight(dtype)
        return round(linear) + self._unquantised_params * _FP16_BYTES

    def kv_bytes_per_token_layer(self, dtype: str) -> int:
        """Bytes of K and V of one token in one layer, scales included."""
        if dtype not in KV_DTYPES:
            raise unknown_name("KV dtype", dtype, KV_DTYPES)
        if dtype == "int8":
            return 2 * self.num_kv_heads * (self.head_dim + _INT8_KV_SCALE_BYTES)
        return 2 * self.kv_size * _FP16_BYTES

    def kv_bytes_per_token(self, dtype: str) -> int:
        """Bytes of K and V of one token in all layers."""
        return self.num_layers * self.kv_bytes_per_token_layer(dtype)


def bytes_per_weight(dtype: str) -> float:
    """Mean bytes of one linear weight, group scales included; UsageError for an unknown dtype."""
    if dtype not in _BYTES_PER_WEIGHT:
        raise unknown_name("weight dtype", dtype, WEIGHT_DTYPES)
    return _BYTES_PER_WEIGHT[dtype]


def _llama(name: str, layers: int, hidden: int, heads: tuple[int, int], ffn: int, vocab: int,
           position: int, source: str, bias: bool = False) -> ModelShape:  # fmt: skip
    head_dim = hidden // heads[0]
    return ModelShape(
        name=name,
        num_layers=layers,
        hidden_size=hidden,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=head_dim,
        intermediate_size=ffn,
        vocab_size=vocab,
        max_position=position,
        tie_embeddings=False,
        source=f"config.json of {source}",
        small_params_per_layer=(heads[0] + 2 * heads[1]) * head_dim if bias else 0,
    )


_BUILT_IN = {
    model.name: model
    for model in (
        _llama("llama-2-7b", 32, 4096, (32, 32), 11008, 32000, 4096, "meta-llama/Llama-2-7b-hf"),
        _llama("llama-2-13b", 40, 5120, (40, 40), 13824, 32000, 4096, "meta-llama/Llama-2-13b-hf"),
        _llama("llama-3.1-8b", 32, 4096, (32, 8), 14336, 128256, 131072, "meta-llama/Llama-3.1-8B"),
        _llama("llama-3.1-70b", 80, 8192, (64, 8), 28672, 128256, 131072,
               "meta-llama/Llama-3.1-70B"),
        _llama("mistral-7b", 32, 4096, (32, 8), 14336, 32768, 32768, "mistralai/Mistral-7B-v0.3"),
        _llama("qwen2.5-7b", 28, 3584, (28, 4), 18944, 152064, 131072, "Qwen/Qwen2.5-7B",
               bias=True),
        _llama("qwen2.5-32b", 64, 5120, (40, 8), 27648, 152064, 131072, "Qwen/Qwen2.5-32B",
               bias=True),
    )
}  # fmt: skip


def list_models() -> tuple[ModelShape, ...]:
    """All built-in shapes, in a fixed order."""
    return tuple(_BUILT_IN.values())


def shape(name_or_path: str) -> ModelShape:
    """A built-in shape by name, or one read from a Hugging Face config.json (or its directory).

    A sliding attention window is not modelled: every token of the context is kept and read.
    UsageError for an unknown name, InputError for a file that cannot be used.
    """
    if name_or_path in _BUILT_IN:
        return _BUILT_IN[name_or_path]
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "config.json"
    elif not path.exists() and path.suffix != ".json" and path.name == name_or_path:
        raise unknown_name("model", name_or_path, _BUILT_IN)
    return _parse(path)


def _parse(path: Path) -> ModelShape:
    config = _Config(path, _read_object(path))
    family = config.family()
    heads = config.count("num_attention_heads")
    kv_heads = config.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise config.error(f"{heads} attention heads cannot share {kv_heads} KV heads")
    head_dim = config.count("head_dim", config.count("hidden_size") // heads)
    model = ModelShape(
        name=path.resolve().parent.name if path.name == "config.json" else path.stem,
        num_layers=config.count("num_hidden_layers"),
        hidden_size=config.count("hidden_size"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=config.count("intermediate_size"),
        vocab_size=config.count("vocab_size"),
        max_position=config.count("max_position_embeddings"),
        tie_embeddings=config.flag("tie_word_embeddings"),
        source=str(path),
        small_params_per_layer=config.small_params(family, heads, kv_heads, head_dim),
    )
    if model.head_dim < 1:
        raise config.error(f"hidden_size {model.hidden_size} is smaller than {heads} heads")
    return model


def _read_object(path: Path) -> Mapping[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read model config '{path}': {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"model config '{path}' is not JSON; expected a config.json") from error
    if not isinstance(data, Mapping):
        raise InputError(f"model config '{path}' is not a JSON object; expected a config.json")
    return data


@dataclass(frozen=True, slots=True)
class _Config:
    """Typed reads from a parsed config.json; every complaint names the file and the key."""

    path: Path
    data: Mapping[str, object]

    def error(self, what: str) -> InputError:
        return InputError(f"model config '{self.path}': {what}")

    def family(self) -> str:
        family = self.data.get("model_type")
        if family not in _FAMILIES:
            known = ", ".join(_FAMILIES)
            raise self.error(f"model_type {family!r} is not supported; supported: {known}")
        return str(family)

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer; an absent or null key gives the default, if there is one."""
        value = self.data.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.error(f"key '{key}' is {value!r}; expected a positive integer")
        return value

    def flag(self, key: str) -> bool:
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            raise self.error(f"key '{key}' is {value!r}; expected true or false")
        return value

    def small_params(self, family: str, heads: int, kv_heads: int, head_dim: int) -> int:
        """Biases and head norms per layer, as Transformers builds them for each family."""
        qkv_bias = (heads + 2 * kv_heads) * head_dim
        if family == "qwen2":
            return qkv_bias
        has_bias = family in ("llama", "qwen3") and self.flag("attention_bias")
        bias = qkv_bias + self.count("hidden_size") if has_bias else 0
        return bias + (2 * head_dim if family == "qwen3" else 0)
