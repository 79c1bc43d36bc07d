"""Rotary positions: the frequencies of each scaling, and the rotation. Keeps no state of a run.

Frequencies are computed in fp32 in the order Transformers uses, because at position 100 000 a last
bit of a frequency is a hundredth of a radian.
"""

import math

import torch
from torch import Tensor

from apexbench.engine.model.rope_config import RopeConfig


class Rope:
    """Sines and cosines for the positions of one model.

    Source: Su et al., RoFormer (arXiv 2104.09864), halves rotated as in GPT-NeoX and Llama.
    """

    def __init__(self, rope: RopeConfig, head_dim: int, device: torch.device) -> None:
        self._rope = rope
        self._exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device)
        self._exponents /= head_dim
        self._frequencies = _frequencies(rope, self._exponents)

    def rotation(self, positions: Tensor, lengths: Tensor, dtype: torch.dtype) -> "Rotation":
        """The rotation of `positions` [n] for sequences of `lengths` [n], in `dtype`.

        Only dynamic scaling looks at the lengths: a token keeps the frequencies of the length its
        sequence had when it was computed, so that later tokens never change earlier ones.
        """
        frequencies = self._frequencies
        if self._rope.kind == "dynamic":
            frequencies = self._dynamic(lengths)
        angles = positions.to(torch.float32)[:, None] * frequencies
        angles = torch.cat((angles, angles), dim=-1)
        scale = self._rope.attention_factor
        cosine, sine = angles.cos(), angles.sin()
        if scale != 1.0:
            cosine, sine = cosine * scale, sine * scale
        return Rotation(cosine.to(dtype)[:, None], sine.to(dtype)[:, None])

    def _dynamic(self, lengths: Tensor) -> Tensor:
        """NTK-aware frequencies [n, head_dim / 2] of rows by sequence length.

        Source: "dynamic NTK scaling" by u/emozilla (2023), in the form of Transformers.
        """
        rope, limit = self._rope, self._rope.original_max_position
        head_dim = 2 * self._exponents.shape[0]
        growth = (rope.factor * lengths / limit) - (rope.factor - 1)
        bases = rope.theta * growth ** (head_dim / (head_dim - 2))
        grown = 1.0 / (bases[:, None] ** self._exponents)
        return torch.where((lengths > limit)[:, None], grown, self._frequencies)


class Rotation:
    """Cosines and sines [n, 1, head_dim] of n rows, applied to any number of heads."""

    def __init__(self, cosine: Tensor, sine: Tensor) -> None:
        self._cosine = cosine
        self._sine = sine

    def apply(self, heads: Tensor) -> Tensor:
        """`heads` [n, any, head_dim] rotated, as a new tensor."""
        half = heads.shape[-1] // 2
        swapped = torch.cat((-heads[..., half:], heads[..., :half]), dim=-1)
        return (heads * self._cosine).add_(swapped.mul_(self._sine))


def _frequencies(rope: RopeConfig, exponents: Tensor) -> Tensor:
    """Radians per position [head_dim / 2]; those of unscaled lengths for dynamic scaling."""
    plain: Tensor = 1.0 / (rope.theta**exponents)
    if rope.kind == "linear":
        return plain / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, plain)
    if rope.kind == "yarn":
        return _yarn(rope, rope.theta**exponents)
    return plain


def _llama3(rope: RopeConfig, plain: Tensor) -> Tensor:
    """Long waves are stretched, short ones kept, those between blended.

    Source: Meta's llama-models, `apply_scaling` (Llama 3.1).
    """
    low, high, original = rope.low_freq_factor, rope.high_freq_factor, rope.original_max_position
    waves = 2 * math.pi / plain
    stretched = torch.where(waves > original / low, plain / rope.factor, plain)
    share = (original / waves - low) / (high - low)
    blended = (1 - share) * stretched / rope.factor + share * stretched
    is_between = (waves >= original / high) & (waves <= original / low)
    return torch.where(is_between, blended, stretched)


def _yarn(rope: RopeConfig, pos_frequencies: Tensor) -> Tensor:
    """NTK by parts: YaRN (arXiv 2309.00071), section 3.2."""
    count = pos_frequencies.shape[0]
    low, high = _yarn_range(rope, 2 * count)
    ramp = (torch.arange(count, dtype=torch.float32, device=pos_frequencies.device) - low) / (
        high - low
    )
    kept = 1 - ramp.clamp(0, 1)
    interpolated = 1.0 / (rope.factor * pos_frequencies)
    return interpolated * (1 - kept) + (1.0 / pos_frequencies) * kept


def _yarn_range(rope: RopeConfig, head_dim: int) -> tuple[float, float]:
    """Between which pairs of a head the ramp lies, for beta rotations over the original length."""
    low, high = (
        head_dim
        * math.log(rope.original_max_position / (beta * 2 * math.pi))
        / (2 * math.log(rope.theta))
        for beta in (rope.beta_fast, rope.beta_slow)
    )
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    return low, high if high != low else high + _SMALLEST_RAMP


_SMALLEST_RAMP = 0.001  # pairs; Transformers' guard against a division by zero
