"""Runs a decoder over a paged pool as an executor would: chunks of a prompt, then single tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from apexbench.engine.model.attention import PagedAttention, store
from apexbench.engine.model.config import read_config
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.model.weights import load_weights


def open_decoder(path: Path, dtype: str = "fp32") -> Decoder:
    config = read_config(path)
    return Decoder(config, load_weights(path, config, dtype))


@dataclass
class Stored:
    """A sequence whose KV lies in scattered blocks."""

    blocks: list[int]
    prompt_tokens: int
    length: int = 0


@dataclass
class PagedRun:
    """A decoder, one pool per layer filled with NaN, and blocks handed out in shuffled order."""

    decoder: Decoder
    block_size: int = 16
    num_blocks: int = 64
    seed: int = 0
    free: list[int] = field(init=False)
    pools: list[tuple[Tensor, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.decoder.config.shape
        order = torch.randperm(self.num_blocks, generator=torch.Generator().manual_seed(self.seed))
        self.free = order.tolist()
        size = (self.num_blocks * self.block_size, shape.num_kv_heads, shape.head_dim)
        dtype = self.decoder.weights.dtype
        self.pools = [
            (torch.full(size, torch.nan, dtype=dtype), torch.full(size, torch.nan, dtype=dtype))
            for _ in range(shape.num_layers)
        ]
        self.attention = PagedAttention(self.decoder.softmax_scale)

    def prefill(self, prompt: Sequence[int], chunk: int) -> tuple[Stored, Tensor]:
        """Logits [tokens, vocab] of a prompt computed in chunks."""
        sequence = Stored([], len(prompt))
        pieces = [
            self._forward([sequence], torch.tensor(prompt[start : start + chunk]), is_prefill=True)
            for start in range(0, len(prompt), chunk)
        ]
        return sequence, torch.cat(pieces)

    def decode(self, sequences: Sequence[Stored], tokens: Sequence[int]) -> Tensor:
        """Logits [rows, vocab] of one more token per sequence, all in one batch."""
        return self._forward(sequences, torch.tensor(tokens), is_prefill=False)

    def _forward(self, sequences: Sequence[Stored], tokens: Tensor, is_prefill: bool) -> Tensor:
        new = len(tokens) // len(sequences)
        for sequence in sequences:
            sequence.length += new
            while len(sequence.blocks) * self.block_size < sequence.length:
                sequence.blocks.append(self.free.pop())
        slots = [self._slots(sequence) for sequence in sequences]
        positions = torch.cat([torch.arange(s.length - new, s.length) for s in sequences])
        prompts = torch.tensor([s.prompt_tokens for s in sequences]).repeat_interleave(new)
        lengths = torch.maximum(prompts, positions + 1)
        hidden = self.decoder.embed(tokens)
        for layer, pools in enumerate(self.pools):
            q, k, v = self.decoder.pre(layer, hidden, positions, lengths)
            target = torch.cat([own[-new:] for own in slots])
            store(pools[0], target, k)
            store(pools[1], target, v)
            window = self.decoder.config.window_of(layer)
            if is_prefill:
                attended = self.attention.prefill(q, pools, slots[0], window)
            else:
                padded = torch.nn.utils.rnn.pad_sequence(slots, batch_first=True, padding_value=-1)
                counts = [s.length for s in sequences]
                attended = self.attention.decode(q, pools, padded, counts, window)
            hidden = self.decoder.post(layer, hidden, attended)
        return self.decoder.head(hidden)

    def _slots(self, sequence: Stored) -> Tensor:
        starts = torch.tensor(sequence.blocks) * self.block_size
        every = (starts[:, None] + torch.arange(self.block_size)).flatten()
        return every[: sequence.length]
