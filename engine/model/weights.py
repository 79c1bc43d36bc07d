"""The decoder's matrices, read from safetensors. Fuses while it copies; computes nothing.

Files are memory-mapped and every byte is read once: straight into its place, converted on the way.
All names and shapes are checked before the first byte is copied.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from apexbench.engine.model.checkpoint import Checkpoint
from apexbench.engine.model.config import ModelConfig
from apexbench.engine.model.layout import Part, Whole, layout
from apexbench.errors import unknown_name

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Matrices of one layer, outputs first: qkv [(heads + 2 kv_heads) dim, hidden], gate_up [2 ffn,
    hidden]; qk_norm [heads + kv_heads, dim]. What a family lacks is None.
    """

    input_norm: Tensor
    qkv: Tensor
    output: Tensor
    post_norm: Tensor
    gate_up: Tensor
    down: Tensor
    qkv_bias: Tensor | None = None
    qk_norm: Tensor | None = None
    output_bias: Tensor | None = None
    gate_up_bias: Tensor | None = None
    down_bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Weights:
    """All matrices of a decoder; `head` is `embedding` itself where they are tied."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor

    @property
    def dtype(self) -> torch.dtype:
        """dtype of every matrix."""
        return self.embedding.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes held, a tied embedding counted once."""
        own = [self.embedding, self.norm]
        own += [] if self.head is self.embedding else [self.head]
        for layer in self.layers:
            values = (getattr(layer, field.name) for field in fields(layer))
            own += [value for value in values if value is not None]
        return sum(tensor.nbytes for tensor in own)


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of fp32, bf16 or fp16; UsageError for another name."""
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def load_weights(
    path: str | Path, config: ModelConfig, dtype: str, on_progress: Progress | None = None
) -> Weights:
    """The weights of a model folder in `dtype` (fp32, bf16, fp16).

    on_progress(bytes_done, bytes_total) counts bytes of the files. InputError where a tensor is
    missing, of another shape or kind, or a file is damaged; the sentence names file and tensor.
    """
    target = torch_dtype(dtype)
    wholes = tuple(layout(config))
    with Checkpoint(Path(path)) as checkpoint:
        total = sum(checkpoint.check(part.name, part.shape) for part in _parts(wholes))
        done = 0
        tensors = []
        for whole in wholes:
            tensor = torch.empty(whole.shape, dtype=target)
            done += _fill(tensor, whole, checkpoint)
            tensors.append(tensor)
            if on_progress is not None:
                on_progress(done, total)
    return assemble(config, zip(wholes, tensors, strict=True))


def assemble(config: ModelConfig, filled: Iterable[tuple[Whole, Tensor]]) -> Weights:
    """Weights from the matrices of a layout, in any order."""
    shared: dict[str, Tensor] = {}
    layers: list[dict[str, Tensor]] = [{} for _ in range(config.shape.num_layers)]
    for whole, tensor in filled:
        owner = shared if whole.layer is None else layers[whole.layer]
        owner[whole.field] = _per_head(config, tensor) if whole.field == "qk_norm" else tensor
    shared.setdefault("head", shared["embedding"])
    return Weights(layers=tuple(LayerWeights(**own) for own in layers), **shared)


def _per_head(config: ModelConfig, tensor: Tensor) -> Tensor:
    return tensor.view(-1, config.shape.head_dim)


def _parts(wholes: Iterable[Whole]) -> Iterable[Part]:
    return (part for whole in wholes for part in whole.parts)


def _fill(tensor: Tensor, whole: Whole, checkpoint: Checkpoint) -> int:
    """Copies all parts to their rows; returns the bytes read."""
    done = row = 0
    for part in whole.parts:
        source = checkpoint.tensor(part.name)
        rows = tensor[row : row + part.rows]
        rows.view(part.repeats, *part.shape).copy_(source)
        row += part.rows
        done += source.nbytes
    return done
