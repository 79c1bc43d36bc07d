"""A request in flight: the one mutable object of the engine, changed by the scheduler alone."""

from enum import StrEnum

from apexbench.records import Request


class Tier(StrEnum):
    """Where a sequence's KV lives, and so where its decode attention runs."""

    GPU = "gpu"
    CPU = "cpu"


class Phase(StrEnum):
    """Where a sequence stands. A CPU row inside a cohort is still in DECODE."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    ENDED = "ended"


class Sequence:
    """Counts of one request in flight.

    `computed` KV tokens are stored, `room` is how many its blocks hold; `target` is what prefill
    must reach (the prompt, or after a preemption everything known so far). In DECODE the step
    reads computed + 1 KV tokens.
    The true output length is not here: only the executor knows when a sequence ends.
    """

    __slots__ = (
        "arrival_ns",
        "blocks",
        "cohort",
        "computed",
        "cpu_decode_tokens",
        "first_token_ns",
        "generated",
        "growth_due",
        "id",
        "is_cancelled",
        "is_copying",
        "is_free",
        "order",
        "phase",
        "preemptions",
        "prompt_tokens",
        "room",
        "swaps",
        "target",
        "tier",
    )

    def __init__(self, request: Request, order: int, arrival_ns: int = 0) -> None:
        self.id = request.id
        self.arrival_ns = arrival_ns
        self.first_token_ns = 0  # of the last life: a preemption does not take tokens back
        self.order = order  # of arrival; FCFS is by this number
        self.prompt_tokens = request.prompt_tokens
        self.phase = Phase.WAITING
        self.tier = Tier.GPU
        self.blocks: list[int] = []
        self.room = 0
        self.growth_due = 0  # on the clock of rows.GpuRows: when its next block is due
        self.computed = 0
        self.target = request.prompt_tokens
        self.generated = 0
        self.cohort: int | None = None  # set from pre(0) until the token is sampled
        self.is_free = False  # a CPU row that may start a token: listed in rows.CpuRows
        self.is_copying = False  # its KV is still on its way to the host
        self.is_cancelled = False
        self.cpu_decode_tokens = 0
        self.preemptions = 0
        self.swaps = 0

    def reset_for_recompute(self) -> None:
        """Forget the KV; prefill must rebuild it for the prompt and everything generated."""
        self.phase = Phase.WAITING
        self.tier = Tier.GPU
        self.target = self.prompt_tokens + self.generated
        self.computed = 0
        self.preemptions += 1

    @property
    def is_at_token_boundary(self) -> bool:
        """True when its blocks may be moved or freed: no cohort and no copy holds them."""
        if self.cohort is not None or self.is_copying:
            return False
        return not (self.phase is Phase.PREFILL and self.tier is Tier.CPU and self.computed > 0)
