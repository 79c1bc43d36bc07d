"""The arithmetic of a Llama-like decoder by layers. Attention, KV and batching are the caller's.

Rows are tokens of any sequences in any mix; only `positions` and `lengths` tell them apart.
"""

from collections import deque

import torch
from torch import Tensor
from torch.nn import functional

from apexbench.engine.model.config import ModelConfig
from apexbench.engine.model.rope import Rope, Rotation
from apexbench.engine.model.weights import LayerWeights, Weights


class Decoder:
    """embed → (pre → attention of the caller → post) for every layer → head."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.softmax_scale = config.shape.head_dim**-0.5
        self._rope = Rope(config.rope, config.shape.head_dim, weights.embedding.device)
        # All layers of a step ask for the same positions; two sub-batches take turns.
        self._rotations: deque[tuple[Tensor, Tensor, Rotation]] = deque(maxlen=2)

    @torch.inference_mode()
    def embed(self, token_ids: Tensor) -> Tensor:
        """Hidden states [n, hidden_size] of `token_ids` int64 [n]."""
        return functional.embedding(token_ids, self.weights.embedding)

    @torch.inference_mode()
    def pre(
        self, layer: int, hidden: Tensor, positions: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """q [n, heads, dim], k and v [n, kv_heads, dim] of one layer, positions applied.

        positions int64 [n]; lengths int64 [n]: max(prompt tokens, position + 1) of each row's
        sequence, which alone decides dynamic scaling. The three are views: their last dimension is
        contiguous, rows are not.
        """
        model, own = self.config.shape, self.weights.layers[layer]
        normed = self._norm(hidden, own.input_norm)
        projected = functional.linear(normed, own.qkv, own.qkv_bias)
        heads = projected.view(hidden.shape[0], -1, model.head_dim)
        num_rotated = model.num_heads + model.num_kv_heads
        rotated = heads[:, :num_rotated]
        if own.qk_norm is not None:
            rotated = self._norm_heads(rotated, own.qk_norm)
        rotated = self._rotation(positions, lengths, hidden.dtype).apply(rotated)
        return rotated[:, : model.num_heads], rotated[:, model.num_heads :], heads[:, num_rotated:]

    @torch.inference_mode()
    def post(self, layer: int, hidden: Tensor, attention: Tensor) -> Tensor:
        """Hidden states after a layer: output projection, residual, norm, gated FFN, residual.

        hidden [n, hidden_size] is left as it is; attention [n, heads * dim].
        """
        own = self.weights.layers[layer]
        attended = functional.linear(attention, own.output, own.output_bias).add_(hidden)
        return self._ffn(self._norm(attended, own.post_norm), own).add_(attended)

    @torch.inference_mode()
    def head(self, hidden: Tensor) -> Tensor:
        """Logits float32 [n, vocab] of hidden [n, hidden_size] after the last layer."""
        normed = self._norm(hidden, self.weights.norm)
        return functional.linear(normed, self.weights.head).float()

    def _rotation(self, positions: Tensor, lengths: Tensor, dtype: torch.dtype) -> Rotation:
        for of_positions, of_lengths, rotation in self._rotations:
            if of_positions is positions and of_lengths is lengths:
                return rotation
        found = self._rope.rotation(positions, lengths, dtype)
        self._rotations.append((positions, lengths, found))
        return found

    def _ffn(self, normed: Tensor, own: LayerWeights) -> Tensor:
        gate, up = functional.linear(normed, own.gate_up, own.gate_up_bias).chunk(2, dim=-1)
        return functional.linear(functional.silu(gate).mul_(up), own.down, own.down_bias)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return functional.rms_norm(hidden, (hidden.shape[-1],), weight, self.config.norm_eps)

    def _norm_heads(self, heads: Tensor, weight: Tensor) -> Tensor:
        """Every head [n, heads, dim] normed by itself, then weighted by its own row of `weight`."""
        plain = functional.rms_norm(heads, (heads.shape[-1],), None, self.config.norm_eps)
        return plain.mul_(weight)
