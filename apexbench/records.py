"""What crosses boundaries: requests going in, records coming out. Frozen data, no behaviour.

Times are integer nanoseconds on the clock of the run; counts are tokens.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a client would send it, plus the output length the model will produce.

    `output_tokens` is the truth known to the executor alone; schedulers and policies never see it.
    """

    id: int
    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    token_ids: tuple[int, ...] | None = None
    prefix_hashes: tuple[int, ...] | None = None

    @property
    def total_tokens(self) -> int:
        """KV tokens held when the last output token has been produced."""
        return self.prompt_tokens + self.output_tokens


class RequestStatus(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    REJECTED = "rejected"  # could never fit; refused on arrival
    FAILED = "failed"  # started and could not be finished
    CANCELLED = "cancelled"
    UNFINISHED = "unfinished"  # the run ended first


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The life of one request. `arrival_ns` is the scheduled arrival, so queueing is never hidden.

    `output_tokens` counts tokens produced; `cpu_decode_tokens` those of them whose decode attention
    ran on the CPU. `start_ns` is when the first of its tokens entered a step.
    """

    id: int
    status: RequestStatus
    prompt_tokens: int
    output_tokens: int
    arrival_ns: int
    start_ns: int | None
    first_token_ns: int | None
    end_ns: int | None
    cpu_decode_tokens: int
    preemptions: int
    swaps: int
    reason: str | None = None


def never_served(request: Request) -> RequestRecord:
    """The record of a request that a run did not get to."""
    return RequestRecord(
        id=request.id,
        status=RequestStatus.UNFINISHED,
        prompt_tokens=request.prompt_tokens,
        output_tokens=0,
        arrival_ns=request.arrival_ns,
        start_ns=None,
        first_token_ns=None,
        end_ns=None,
        cpu_decode_tokens=0,
        preemptions=0,
        swaps=0,
        reason="the run ended before it arrived",
    )


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One engine iteration: what ran, how it overlapped, what it produced."""

    index: int
    start_ns: int
    end_ns: int
    strategy: str
    prefill_tokens: int
    gpu_rows: int
    in_layer_rows: int
    deferred_rows: int  # CPU rows that joined one layer or entered in this step
    output_tokens: int


@dataclass(frozen=True, slots=True)
class OpSpan:
    """One op of a step program as it ran on a lane. `layer` is None for per-step ops."""

    step: int
    lane: str
    kind: str
    group: str  # sub-batch "A" or "B", or a cohort such as "c3"; "" where neither applies
    layer: int | None
    rows: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of one run, sorted by (arrival_ns, id), and where they come from.

    `concurrency` makes it a closed loop: at most that many requests are in flight, the next one
    arrives when one ends, and `arrival_ns` is ignored. `dropped` counts source rows left out or
    changed, by reason. `sha256` identifies the lengths and arrivals actually served.
    """

    name: str
    requests: tuple[Request, ...]
    sha256: str
    source: str
    is_approximated: bool = False
    concurrency: int | None = None
    dropped: tuple[tuple[str, int], ...] = ()


LANES = ("gpu", "cpu", "h2d", "d2h", "host")
STRATEGIES = ("gpu_only", "in_layer", "two_batch", "deferred", "fused")
IDLE_REASONS = ("cpu_attention", "copy", "scheduling", "no_work")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Running totals of a run at one instant; the difference of two measures what lies between.

    `waiting`, `gpu_rows` and `cpu_resident` are the state at that instant, all else counts up
    from the start of the run. Tuples follow LANES, IDLE_REASONS and STRATEGIES.
    """

    time_ns: int
    output_tokens: int
    prompt_tokens: int  # prompt tokens of requests whose prefill has finished
    completed: int
    cpu_completed: int  # completed requests that the CPU tier served at least one token of
    waiting: int
    gpu_rows: int
    cpu_resident: int
    busy_ns: tuple[int, ...]
    overlap_ns: int
    idle_ns: tuple[int, ...]
    strategy_steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TokenGaps:
    """Inter-token gaps of all requests as a histogram: `counts[i]` gaps of about `gap_ns[i]`.

    Bins are relative (0.5 % wide), so memory does not grow with the run.
    """

    gap_ns: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepTimeline:
    """All ops of one step, kept because the step is representative of its strategy."""

    record: StepRecord
    spans: tuple[OpSpan, ...]


class PlanForecast(NamedTuple):
    """What a policy expected of one candidate plan. `gain_tokens` is what it maximises."""

    plan: str
    strategy: str
    prefill_tokens: int
    in_layer_rows: int
    deferred_rows: int
    step_s: float
    rate_tok_s: float
    gain_tokens: float
    tpot_s: float | None
    is_within_targets: bool


class Decision(NamedTuple):
    """A choice among candidates, and why."""

    chosen: int
    reason: str
    candidates: tuple[PlanForecast, ...]


class DecisionRecord(NamedTuple):
    """A decision with the step it was made for."""

    step: int
    start_ns: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class RunLog:
    """Everything one run of the engine leaves behind; memory is linear in requests.

    `checkpoints` are in time order, first at t = 0 and last at the end, thinned out to a bounded
    number. `timelines` holds one representative step per strategy that occurred, `stretches` runs
    of consecutive steps spread over the run, if they were asked for.
    """

    requests: tuple[RequestRecord, ...]
    checkpoints: tuple[Checkpoint, ...]
    token_gaps: TokenGaps
    timelines: tuple[StepTimeline, ...]
    gpu_kv_tokens: int
    cpu_kv_tokens: int
    num_steps: int
    end_ns: int
    stretches: tuple[tuple[StepRecord, ...], ...] = ()
    decisions: tuple[DecisionRecord, ...] = ()  # thinned out to a bounded number
    prediction_error: float | None = None  # mean |predicted / actual - 1| of steps, if predicted
