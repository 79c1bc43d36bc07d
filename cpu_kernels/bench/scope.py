"""What is measured: shapes, dtypes, levels, threads and how often; the sets behind the options."""

from dataclasses import dataclass
from typing import Literal

from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.errors import UsageError

PeerDtype = Literal["fp16", "bf16"]

HEAD_DIM = 128
# Query heads / KV heads of common models: Llama-2 7B, Llama-3 8B, Llama-3 70B.
HEADS = {1: (32, 32), 4: (32, 8), 8: (64, 8)}
# Total KV that a measurement walks through, so that no cache holds what a pass reads.
ROTATION_BYTES = 1 << 30
# A pass shorter than this is made of several jobs, one after the other, each on the next layer.
PASS_BYTES = 64 << 20
MIN_REPEATS = 5
# A minute, less what a section takes to notice.
QUICK_BUDGET_S = 50.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch of `batch` rows of `context` tokens each on one attention layer."""

    batch: int
    context: int
    block_size: int
    num_q_heads: int
    num_kv_heads: int
    head_dim: int = HEAD_DIM

    @property
    def gqa_group(self) -> int:
        """Query heads per KV head."""
        return self.num_q_heads // self.num_kv_heads

    @property
    def contexts(self) -> tuple[int, ...]:
        """Tokens of every row."""
        return (self.context,) * self.batch


def shape_of(gqa_group: int, block_size: int, batch: int, context: int) -> Shape:
    """The shape with the heads of a common model of this group."""
    return Shape(batch, context, block_size, *HEADS[gqa_group])


@dataclass(frozen=True, slots=True)
class Scope:
    """One run of the bench."""

    name: str
    num_repeats: int
    kv_dtypes: tuple[KvDtype, ...]
    gqa_groups: tuple[int, ...]
    block_sizes: tuple[int, ...]
    batches: tuple[tuple[int, int], ...]  # rows x tokens, beside the main shape
    num_calls: int
    peer_dtypes: tuple[PeerDtype, ...]
    # Also those that take minutes: to compile, or to run where they read 0.5 GB/s.
    has_slow_peers: bool
    # Only peers with one of these in their name; empty: all.
    peers: tuple[str, ...] = ()
    # No measurement begins later than this after the start; what is missing then is said.
    budget_s: float | None = None

    def checked(self) -> "Scope":
        """Itself; UsageError when it repeats too little for medians and quartiles to mean much."""
        if self.num_repeats < MIN_REPEATS:
            raise UsageError(f"{self.num_repeats} repeats; expected at least {MIN_REPEATS}")
        return self


MAIN_BATCH, MAIN_CONTEXT = 16, 2048
BATCHES = ((1, 2048), (4, 2048), (64, 2048), (256, 2048), (256, 128))

DEFAULT = Scope(
    name="default",
    num_repeats=11,
    kv_dtypes=("fp16", "bf16", "int8"),
    gqa_groups=(1, 4, 8),
    block_sizes=(16, 64),
    batches=BATCHES,
    num_calls=2000,
    peer_dtypes=("fp16", "bf16"),
    has_slow_peers=True,
)
QUICK = Scope(
    name="quick",
    num_repeats=5,
    kv_dtypes=("fp16", "bf16", "int8"),
    gqa_groups=(1, 4, 8),
    block_sizes=(64,),
    batches=((1, 2048), (256, 128)),
    num_calls=500,
    peer_dtypes=("fp16",),
    has_slow_peers=False,
    budget_s=QUICK_BUDGET_S,
)
FULL = Scope(
    name="full",
    num_repeats=21,
    kv_dtypes=("fp16", "bf16", "int8", "fp8", "fp32"),
    gqa_groups=(1, 4, 8),
    block_sizes=(16, 32, 64, 128),
    batches=BATCHES,
    num_calls=5000,
    peer_dtypes=("fp16", "bf16"),
    has_slow_peers=True,
)
