"""What a step will do (StepPlan) and what it did (StepResult). Frozen data between all parts."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from apexbench.engine.sequence import Tier


class CohortAction(StrEnum):
    """What a deferred cohort does in this step; a cohort that is not in the plan is frozen."""

    ENTER = "enter"  # pre(0): its token begins
    JOIN = "join"  # one layer: post(l) and pre(l+1)
    PROMOTE = "promote"  # join post(l), then ride in-layer to the end and sample in this step


# Reading a member off its class is slow, and a step asks dozens of times.
ENTER, JOIN, PROMOTE = CohortAction.ENTER, CohortAction.JOIN, CohortAction.PROMOTE


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """`new_tokens` of a prompt after `context_tokens` already computed; the last one samples."""

    sequence: int
    new_tokens: int
    context_tokens: int
    tier: Tier
    is_last: bool


def host_bound_tokens(chunks: tuple[PrefillChunk, ...]) -> tuple[int, int]:
    """Tokens of CPU-bound prompts whose KV leaves the GPU in a step, and that are read again."""
    bound = [chunk for chunk in chunks if chunk.tier is Tier.CPU]
    new = sum([chunk.new_tokens for chunk in bound])
    return new, sum([chunk.context_tokens for chunk in bound])


@dataclass(frozen=True, slots=True)
class SubBatch:
    """One unified linear batch. KV tokens are sums over rows of what attention reads."""

    chunks: tuple[PrefillChunk, ...] = ()
    gpu_rows: tuple[int, ...] = ()
    gpu_kv_tokens: int = 0
    in_layer_rows: tuple[int, ...] = ()
    in_layer_kv_tokens: int = 0

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens in the batch."""
        return sum([chunk.new_tokens for chunk in self.chunks]) if self.chunks else 0

    @property
    def num_sequences(self) -> int:
        """Sequences in the batch, cohorts not counted: a prompt chunk is one, however long."""
        return len(self.chunks) + len(self.gpu_rows) + len(self.in_layer_rows)

    @property
    def linear_rows(self) -> int:
        """Rows of the batch's matrix products, cohorts not counted."""
        return self.prefill_tokens + len(self.gpu_rows) + len(self.in_layer_rows)


class CohortStep(NamedTuple):
    """A cohort's part in this step; `layer` is where its CPU result is awaited (0 on ENTER).

    A named tuple because a step has dozens of them and a long run millions.
    """

    cohort: int
    action: CohortAction
    layer: int
    rows: tuple[int, ...]
    kv_tokens: int

    def samples(self, num_layers: int) -> bool:
        """True when its rows get their token at the end of this step."""
        if self.action is JOIN:
            return self.layer == num_layers - 1
        return self.action is PROMOTE


class KvMove(NamedTuple):
    """The KV of one sequence changes tier during the step: its first `tokens` tokens go from the
    `source` blocks of the one pool to the `target` blocks of the other, `tier` is where they go.
    """

    sequence: int
    tier: Tier
    tokens: int
    source: tuple[int, ...]
    target: tuple[int, ...]


def strategy_name(*, defers: bool, has_in_layer: bool, has_two_batches: bool) -> str:
    """What a plan with these parts is called; `defers`: cohorts take part."""
    if defers:
        return "fused" if has_in_layer else "deferred"
    if has_two_batches:
        return "two_batch"
    return "in_layer" if has_in_layer else "gpu_only"


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One engine iteration: one or two sub-batches, cohorts, and KV that changes tier.

    `swap_in_tokens` and `swap_out_tokens` are never both non-zero; `moves` are the same tokens by
    sequence, for executors that have them to copy.
    """

    index: int
    batches: tuple[SubBatch, ...]
    cohorts: tuple[CohortStep, ...] = ()
    swap_in_tokens: int = 0
    swap_out_tokens: int = 0
    planning_ns: int = 0  # what deciding on it took on the host
    was_chosen: bool = False  # by the policy; False where there was nothing to decide
    moves: tuple[KvMove, ...] = ()

    @property
    def strategy(self) -> str:
        """The name of what this plan does, derived from its parts."""
        batches = self.batches
        has_in_layer = bool(batches[0].in_layer_rows or batches[-1].in_layer_rows)
        return strategy_name(
            defers=bool(self.cohorts),
            has_in_layer=has_in_layer,
            has_two_batches=len(batches) > 1,
        )

    @property
    def is_decode_only(self) -> bool:
        """True when no prompt token is computed."""
        return not (self.batches[0].chunks or self.batches[-1].chunks)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What an executor did with a plan. Times are nanoseconds on the run's clock.

    `tokens` has (sequence, tokens produced) for every row that sampled; `finished` those whose
    output is complete; `failed` those the executor could not serve, with the reason.
    """

    start_ns: int
    end_ns: int
    tokens: tuple[tuple[int, int], ...]
    finished: frozenset[int] = frozenset()
    failed: tuple[tuple[int, str], ...] = field(default=())
