"""What was measured on a host, as data: medians with spreads and circumstances; no conclusions."""

from dataclasses import dataclass
from typing import Any

from apexbench.engine.executors.profiling.quiet import Quietness


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of something repeated `n` times: median, and interquartile range over median."""

    seconds: float
    spread: float
    n: int


@dataclass(frozen=True, slots=True)
class ReadLimit:
    """GB/s at which the best reader read memory with `threads` threads; `spread` is its own."""

    threads: int
    gb_per_s: float
    spread: float


@dataclass(frozen=True, slots=True)
class AttentionPoint:
    """A job of one attention layer: rows of these `lengths` in tokens, submission included.

    `kv_bytes` is what it reads, scales included. Points held out of fits are for judging them.
    """

    dtype: str
    num_q_heads: int
    num_kv_heads: int
    threads: int
    lengths: tuple[int, ...]
    kv_bytes: int
    seconds: float
    spread: float
    round: int
    is_held_out: bool = False

    @property
    def gqa_group(self) -> int:
        """Query heads per KV head."""
        return self.num_q_heads // self.num_kv_heads

    @property
    def rows(self) -> int:
        """Rows of the job."""
        return len(self.lengths)

    @property
    def kv_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy by one thread between memory that no cache holds.

    `kind`: "memcpy" of bytes from one arena to another and back ("out", "back"), or "store" and
    "load" of tokens, which convert between fp16 and a KV cache of `dtype`. `num_bytes` are those of
    the source.
    """

    kind: str
    direction: str
    dtype: str
    num_bytes: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class Handover:
    """Submitting a job of next to no work and joining it, by who calls and what workers do."""

    caller: str
    workers: str
    threads: int
    timing: Timing
    seconds_p99: float


@dataclass(frozen=True, slots=True)
class Wait:
    """How late a wait ended: a sleep of `asked_s`, or a thread that another one woke (0)."""

    kind: str
    asked_s: float
    late: Timing


@dataclass(frozen=True, slots=True)
class StepTime:
    """Python time of Scheduler.schedule and commit in one decode step of `rows` rows."""

    rows: int
    timing: Timing


@dataclass(frozen=True, slots=True)
class HostMeasurements:
    """Everything of one run. `missing` says what its time did not suffice for.

    `lane_step_s` is an empty step through the engine's lanes, each a thread; `lane_in_layer_s` what
    rows on the CPU tier add to it in every layer by being handed from lane to lane.
    """

    scope: str
    cores: int
    memory_bytes: int
    threads: tuple[int, ...]
    circumstances: dict[str, Any]
    reads: tuple[ReadLimit, ...]
    attention: tuple[AttentionPoint, ...]
    copies: tuple[Copy, ...]
    handovers: tuple[Handover, ...]
    waits: tuple[Wait, ...]
    steps: tuple[StepTime, ...]
    lane_step_s: float
    lane_in_layer_s: float
    quiet_before: Quietness
    quiet_during: Quietness
    missing: tuple[str, ...]
    wall_s: float
