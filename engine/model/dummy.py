"""Random weights of any shape, for benchmarks: as fast to make as to copy. Means nothing.

One block of normal numbers is repeated through every matrix from another offset, because drawing
each number alone takes longer than reading a checkpoint.
"""

import math

import numpy as np
import torch
from torch import Tensor

from apexbench.engine.model.config import ModelConfig
from apexbench.engine.model.layout import Whole, layout
from apexbench.engine.model.weights import Weights, assemble, torch_dtype

# A prime, so that rows of no width repeat each other until rows and block have passed once.
_BLOCK = 4_194_301
# Standard deviation of the logits: a distribution with a favourite, yet far from one-hot.
_LOGIT_STD = 3.0
_OFFSETS_KEY = 1


def dummy_weights(config: ModelConfig, dtype: str, seed: int) -> Weights:
    """Seeded weights in `dtype` (fp32, bf16, fp16); equal seeds give equal weights.

    Products keep the variance of their inputs and the 2 layers' residual branches share one unit of
    it (GPT-2's initialisation), so activations stay near 1 and fit fp16 at any depth.
    """
    generator = np.random.default_rng(seed)
    block = torch.from_numpy(generator.standard_normal(_BLOCK, dtype=np.float32))
    target = torch_dtype(dtype)
    wholes = tuple(layout(config))
    offsets = np.random.default_rng([seed, _OFFSETS_KEY]).integers(_BLOCK, size=len(wholes))
    return assemble(
        config,
        (
            (whole, _filled(whole, block, int(offset), _scale(config, whole), target))
            for whole, offset in zip(wholes, offsets, strict=True)
        ),
    )


def _scale(config: ModelConfig, whole: Whole) -> float:
    """Standard deviation of a matrix; 0 for norms (which are one) and biases (which are zero)."""
    if whole.field == "embedding" and not config.shape.tie_embeddings:
        return 1.0
    if whole.fan_in == 0:
        return 0.0
    scale = 1 / math.sqrt(whole.fan_in)
    if whole.field in ("head", "embedding"):
        return _LOGIT_STD * scale
    is_residual = whole.field in ("output", "down")
    return scale / math.sqrt(2 * config.shape.num_layers) if is_residual else scale


def _filled(whole: Whole, block: Tensor, offset: int, scale: float, dtype: torch.dtype) -> Tensor:
    if scale == 0.0:
        value = 1.0 if whole.field.endswith("norm") else 0.0
        return torch.full(whole.shape, value, dtype=dtype)
    tensor = torch.empty(whole.shape, dtype=dtype)
    flat = tensor.view(-1)
    scaled = torch.roll(block, offset).mul_(scale).to(dtype)
    for start in range(0, flat.numel(), _BLOCK):
        piece = flat[start : start + _BLOCK]
        piece.copy_(scaled[: piece.numel()])
    return tensor
