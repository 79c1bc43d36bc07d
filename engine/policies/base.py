"""What a policy sees and what it may decide. Policies place work; the scheduler keeps the books."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from apexbench.engine.costs import CostModel
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.thresholds import Thresholds
from apexbench.records import Decision


class Row(Protocol):
    """A decoding sequence as a policy may see it; reading only."""

    @property
    def id(self) -> int:
        """The sequence."""
        ...

    @property
    def computed(self) -> int:
        """KV tokens stored; the next step reads one more."""
        ...

    @property
    def generated(self) -> int:
        """Tokens answered so far."""
        ...

    @property
    def first_token_ns(self) -> int:
        """When the first of them was sampled."""
        ...


class Candidates(NamedTuple):
    """The work at hand. GPU rows always run; `cpu_rows` are free to start a token, oldest first.

    KV tokens are what the next step's attention reads over all those rows. `deferred_rows` counts
    rows inside the `num_cohorts` outstanding cohorts; `swapped_tokens` change tier in this step.
    """

    chunks: tuple[PrefillChunk, ...]
    num_gpu_rows: int
    gpu_kv_tokens: int
    cpu_rows: tuple[Row, ...]
    cpu_kv_tokens: int
    num_cohorts: int
    deferred_rows: int
    steps_since_entry: int
    swapped_tokens: int = 0

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens in the step."""
        return sum([chunk.new_tokens for chunk in self.chunks]) if self.chunks else 0

    @property
    def base_rows(self) -> int:
        """Linear rows of the GPU's own work."""
        return self.num_gpu_rows + self.prefill_tokens


class Choice(NamedTuple):
    """A policy's decision about CPU rows (by sequence id, each at most once) and prompts.

    `in_layer_a` ride with the GPU's own work, `in_layer_b` form the second sub-batch, `enter`
    begins a deferred cohort. `freezes_cohorts` leaves outstanding cohorts where they are,
    `promotes_cohorts` carries them to the end of their token in this step. `drops` are CPU-bound
    prompts (sequence ids) whose chunk is left for a later step. `planning_ns` is what the decision
    takes on a real host, charged to the step.
    """

    in_layer_a: tuple[int, ...] = ()
    in_layer_b: tuple[int, ...] = ()
    enter: tuple[int, ...] = ()
    drops: tuple[int, ...] = ()
    freezes_cohorts: bool = False
    promotes_cohorts: bool = False
    planning_ns: int = 0


class Finished(NamedTuple):
    """A request that was served to the end."""

    prompt_tokens: int
    output_tokens: int
    first_token_ns: int
    end_ns: int


class Traffic(NamedTuple):
    """What a policy that sets the pace may know before prompts are admitted to a step.

    `waiting_tokens` are estimated from the first few in the queue; `prefill_tokens` are left of
    prompts in progress; `num_on_host` are sequences whose KV is on the host or on its way there;
    `finished` ended since the last step.
    """

    now_ns: int
    num_waiting: int
    waiting_tokens: int
    head_tokens: int
    head_wait_ns: int
    newest_wait_ns: int
    prefill_tokens: int
    free_gpu_tokens: int
    num_on_host: int
    finished: tuple[Finished, ...]


class Limits(NamedTuple):
    """What admission may do in a step. `max_on_host` None: as many as memory holds."""

    max_prefill_tokens: int
    max_on_host: int | None


GPU_ONLY = Choice(freezes_cohorts=True)
JOIN_ALL = Choice()


class Policy(Protocol):
    """Decides, each step, what the CPU does. Constructed once per run with its belief."""

    @property
    def name(self) -> str:
        """Registered name."""
        ...

    @property
    def uses_cpu(self) -> bool:
        """True when sequences may live on the host."""
        ...

    def choose(self, work: Candidates) -> Choice:
        """The decision for one step; must not keep references to rows."""
        ...


@runtime_checkable
class Pacing(Protocol):
    """A policy that also sets the pace of admission."""

    def limits(self, traffic: Traffic) -> Limits:
        """Asked once per step, before prompts are admitted and before `choose`."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A policy that says what it expects and why it chose."""

    @property
    def predicted_step_ns(self) -> float | None:
        """What the last chosen plan should take; None where nothing was predicted."""
        ...

    def decision(self) -> Decision | None:
        """The last choice with all its candidates; None where an earlier one was used again."""
        ...


@dataclass(frozen=True, slots=True)
class Targets:
    """Latencies a request must keep, in seconds; None = not asked for."""

    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy is built from: its belief (never the truth), its thresholds, the targets."""

    belief: CostModel
    thresholds: Thresholds
    targets: Targets = field(default_factory=Targets)
