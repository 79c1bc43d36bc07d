"""What the steps of a run share: a decoder, KV memory of both tiers, sequences and cohorts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from apexbench.engine.executors.cpu.host_rows import HostLane, HostRows
from apexbench.engine.executors.cpu.kv import GpuPool, HostPool
from apexbench.engine.executors.cpu.rows import BlocksOf, Rows
from apexbench.engine.executors.cpu.sequences import Sequences, SequenceState
from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.model.attention import PagedAttention
from apexbench.engine.model.config import ModelConfig
from apexbench.engine.model.decoder import Decoder
from apexbench.errors import InvariantError

# Told (sequences, logits float32 [sequences, vocab]) whenever tokens are about to be sampled.
LogitsObserver = Callable[[Sequence[SequenceState], Tensor], None]


def _no_blocks(sequence: int) -> Sequence[int]:
    raise InvariantError(f"nobody has said which KV blocks sequence {sequence} has")


@dataclass(slots=True, eq=False)
class CohortState:
    """A deferred cohort: `hidden` is its residual stream, `layer` the attention it is at."""

    rows: Rows
    host: HostRows
    hidden: Tensor | None = None
    layer: int = 0


class ModelState:
    """What steps share."""

    def __init__(
        self,
        decoder: Decoder,
        gpu: GpuPool,
        lane: HostLane | None,
        sequences: Sequences,
        on_logits: LogitsObserver | None = None,
    ) -> None:
        self.decoder = decoder
        self.attention = PagedAttention(decoder.softmax_scale)  # of the gpu lane's thread
        self.gpu = gpu
        self._lane = lane
        self._host = None if lane is None else HostPool(lane.cache, lane.dtype)
        self.sequences = sequences
        self.cohorts: dict[int, CohortState] = {}
        self.blocks_of: BlocksOf = _no_blocks
        self._on_logits = on_logits

    @property
    def lane(self) -> HostLane:
        """The CPU tier's kernels; a plan with CPU rows needs one."""
        if self._lane is None:
            raise InvariantError("a plan has rows on a host tier that this run does not have")
        return self._lane

    @property
    def host(self) -> HostPool:
        """The CPU tier's KV memory."""
        if self._host is None:
            raise InvariantError("a plan moves KV to a host tier that this run does not have")
        return self._host

    @property
    def config(self) -> ModelConfig:
        """The model's."""
        return self.decoder.config

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model."""
        return self.config.shape.num_layers

    def sample(self, rows: Sequence[int], logits: Tensor) -> Sampled:
        """Choose the next token of `rows` from logits float32 [rows, vocab]."""
        if self._on_logits is not None:
            self._on_logits([self.sequences[row] for row in rows], logits)
        return self.sequences.extend(rows, logits)
