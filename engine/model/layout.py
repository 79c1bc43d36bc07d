"""Which tensor of a checkpoint goes into which matrix of the decoder. Names and shapes only.

Q, K and V share one matrix, gate and up another, so that each takes one product instead of three or
two.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from apexbench.engine.model.config import ModelConfig

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of a checkpoint: its name and shape, how often its rows repeat in the whole."""

    name: str
    shape: Shape
    repeats: int = 1

    @property
    def rows(self) -> int:
        """Rows it fills of the whole."""
        return self.shape[0] * self.repeats


@dataclass(frozen=True, slots=True)
class Whole:
    """One matrix or vector of the decoder: parts stacked along their first dimension.

    `layer` is None for what no layer owns; `fan_in` is how many inputs one output sums (0 for
    biases and norms).
    """

    field: str
    layer: int | None
    parts: tuple[Part, ...]
    fan_in: int = 0

    @property
    def shape(self) -> Shape:
        """Shape of the stacked parts."""
        return (sum(part.rows for part in self.parts), *self.parts[0].shape[1:])


def layout(config: ModelConfig) -> Iterator[Whole]:
    """Every matrix and vector of a decoder, layer by layer."""
    model = config.shape
    table = (model.vocab_size, model.hidden_size)
    yield _plain("embedding", None, "model.embed_tokens.weight", table)
    for layer in range(model.num_layers):
        yield from _attention(config, layer)
        yield from _ffn(config, layer)
    yield _plain("norm", None, "model.norm.weight", (model.hidden_size,))
    if not model.tie_embeddings:
        yield _plain("head", None, "lm_head.weight", table)


def _plain(field: str, layer: int | None, name: str, shape: Shape) -> Whole:
    return Whole(field, layer, (Part(name, shape),), shape[1] if len(shape) > 1 else 0)


def _attention(config: ModelConfig, layer: int) -> Iterator[Whole]:
    model, prefix = config.shape, f"model.layers.{layer}"
    own = f"{prefix}.self_attn"
    sizes = {"q": model.q_size, "k": model.kv_size, "v": model.kv_size}
    yield _plain("input_norm", layer, f"{prefix}.input_layernorm.weight", (model.hidden_size,))
    yield Whole(
        "qkv",
        layer,
        tuple(Part(f"{own}.{k}_proj.weight", (n, model.hidden_size)) for k, n in sizes.items()),
        model.hidden_size,
    )
    if config.has_qkv_bias:
        biases = tuple(Part(f"{own}.{kind}_proj.bias", (n,)) for kind, n in sizes.items())
        yield Whole("qkv_bias", layer, biases)
    if config.has_qk_norm:
        yield Whole("qk_norm", layer, _qk_norm(config, own))
    yield _plain("output", layer, f"{own}.o_proj.weight", (model.hidden_size, model.q_size))
    if config.has_output_bias:
        yield _plain("output_bias", layer, f"{own}.o_proj.bias", (model.hidden_size,))


def _qk_norm(config: ModelConfig, own: str) -> tuple[Part, Part]:
    """One weight per head of Q and K, repeated, so that both are normed by one product."""
    model = config.shape
    return (
        Part(f"{own}.q_norm.weight", (model.head_dim,), model.num_heads),
        Part(f"{own}.k_norm.weight", (model.head_dim,), model.num_kv_heads),
    )


def _ffn(config: ModelConfig, layer: int) -> Iterator[Whole]:
    model, prefix = config.shape, f"model.layers.{layer}"
    inner, outer = model.intermediate_size, model.hidden_size
    halves = [f"{prefix}.mlp.{kind}_proj" for kind in ("gate", "up")]
    yield _plain("post_norm", layer, f"{prefix}.post_attention_layernorm.weight", (outer,))
    weights = tuple(Part(f"{half}.weight", (inner, outer)) for half in halves)
    yield Whole("gate_up", layer, weights, outer)
    if config.has_ffn_bias:
        yield Whole("gate_up_bias", layer, tuple(Part(f"{h}.bias", (inner,)) for h in halves))
    yield _plain("down", layer, f"{prefix}.mlp.down_proj.weight", (outer, inner))
    if config.has_ffn_bias:
        yield _plain("down_bias", layer, f"{prefix}.mlp.down_proj.bias", (outer,))
