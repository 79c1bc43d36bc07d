"""What the rows of a step are: token ids, positions and KV slots as tensors. Computes nothing."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from apexbench.engine.executors.cpu.sequences import Sequences
from apexbench.engine.plan import PrefillChunk, SubBatch
from apexbench.engine.sequence import Tier

BlocksOf = Callable[[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Tokens that go through the linear layers together.

    token_ids, positions and lengths are int64 [rows]; `lengths` is what Decoder.pre asks for.
    """

    token_ids: Tensor
    positions: Tensor
    lengths: Tensor

    @property
    def num_rows(self) -> int:
        """How many tokens."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A prompt chunk at rows `first` .. `end` of its batch, after `context` tokens."""

    plan: PrefillChunk
    first: int
    end: int
    slots: Tensor | None  # int64 [context + new]: where its KV is on the GPU; None on the host


@dataclass(frozen=True, slots=True)
class GpuRows:
    """The decode rows of the GPU tier at rows `first` .. `end` of their batch.

    slots: int64 [rows, most tokens], padded with 0; num_tokens: those of each row that count.
    """

    first: int
    end: int
    slots: Tensor
    num_tokens: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """A sub-batch: its chunks first, then GPU rows, then in-layer rows from row `in_layer` on.

    `stored` are the rows whose K and V go into the GPU pool, at `store_slots`.
    """

    rows: Rows
    chunks: tuple[Chunk, ...]
    decode: GpuRows | None
    in_layer: int
    stored: Tensor
    store_slots: Tensor


def decode_rows(ids: Iterable[int], sequences: Sequences) -> Rows:
    """The last token of each sequence."""
    states = [sequences[row] for row in ids]
    positions = [len(state.token_ids) - 1 for state in states]
    lengths = [max(state.num_prompt, p + 1) for state, p in zip(states, positions, strict=True)]
    return _rows([state.token_ids[-1] for state in states], positions, lengths)


def batch_of(
    batch: SubBatch, sequences: Sequences, blocks_of: BlocksOf, block_tokens: int
) -> Batch:
    """The tensors of a sub-batch."""
    place = _Place(sequences, blocks_of, block_tokens)
    for chunk in batch.chunks:
        place.add_chunk(chunk)
    decode = place.add_gpu_rows(batch.gpu_rows) if batch.gpu_rows else None
    in_layer = len(place.token_ids)
    place.add_decode(batch.in_layer_rows)
    return Batch(
        _rows(place.token_ids, place.positions, place.lengths),
        tuple(place.chunks),
        decode,
        in_layer,
        torch.tensor(place.stored, dtype=torch.int64),
        torch.tensor(place.store_slots, dtype=torch.int64),
    )


def slots_of(blocks: Sequence[int], num_tokens: int, block_tokens: int) -> Tensor:
    """Slots of a sequence's first tokens in a pool, int64 [num_tokens]."""
    count = -(-num_tokens // block_tokens)
    first = torch.tensor(blocks[:count], dtype=torch.int64) * block_tokens
    return (first[:, None] + torch.arange(block_tokens)).flatten()[:num_tokens]


def _rows(token_ids: list[int], positions: list[int], lengths: list[int]) -> Rows:
    ids, where, long = torch.tensor([token_ids, positions, lengths], dtype=torch.int64)
    return Rows(ids, where, long)


class _Place:
    """Lays out one sub-batch row by row."""

    def __init__(self, sequences: Sequences, blocks_of: BlocksOf, block_tokens: int) -> None:
        self._sequences = sequences
        self._blocks_of = blocks_of
        self._block_tokens = block_tokens
        self.token_ids: list[int] = []
        self.positions: list[int] = []
        self.lengths: list[int] = []
        self.chunks: list[Chunk] = []
        self.stored: list[int] = []
        self.store_slots: list[int] = []

    def add_chunk(self, chunk: PrefillChunk) -> None:
        state = self._sequences[chunk.sequence]
        first, begin = len(self.token_ids), chunk.context_tokens
        end = begin + chunk.new_tokens
        self.token_ids += state.token_ids[begin:end]
        self.positions += range(begin, end)
        self.lengths += [max(state.num_prompt, position + 1) for position in range(begin, end)]
        last = len(self.token_ids)
        slots = None
        if chunk.tier is Tier.GPU:
            slots = slots_of(self._blocks_of(chunk.sequence), end, self._block_tokens)
            self.stored += range(first, last)
            self.store_slots += slots[begin:].tolist()
        self.chunks.append(Chunk(chunk, first, last, slots))

    def add_gpu_rows(self, ids: tuple[int, ...]) -> GpuRows:
        first = len(self.token_ids)
        self.add_decode(ids)
        counts = [position + 1 for position in self.positions[first:]]
        width = max(counts)
        table = torch.zeros(len(ids), width, dtype=torch.int64)
        for row, (sequence, count) in enumerate(zip(ids, counts, strict=True)):
            table[row, :count] = slots_of(self._blocks_of(sequence), count, self._block_tokens)
        last = torch.tensor(counts, dtype=torch.int64) - 1
        self.stored += range(first, len(self.token_ids))
        self.store_slots += table[torch.arange(len(ids)), last].tolist()
        return GpuRows(first, len(self.token_ids), table, counts)

    def add_decode(self, ids: tuple[int, ...]) -> None:
        for sequence in ids:
            state = self._sequences[sequence]
            position = len(state.token_ids) - 1
            self.token_ids.append(state.token_ids[-1])
            self.positions.append(position)
            self.lengths.append(max(state.num_prompt, position + 1))
