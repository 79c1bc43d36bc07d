"""What only a run in real time has: its overhead, its lanes' threads, and how far to trust it."""

from pydantic import Field

from apexbench.result.base import Document


class Spread(Document):
    """How a duration that occurs many times is spread, in seconds."""

    mean: float | None
    p50: float
    p99: float
    max: float
    n: int


class StepTimes(Document):
    """Busy seconds of the lanes during one step, and the step itself.

    Work of a deferred cohort counts in the step in which it ends.
    """

    step_s: float
    gpu_s: float
    cpu_s: float
    h2d_s: float
    d2h_s: float


class Measured(Document):
    """A run by the wall clock. Dictionaries have an entry per lane that did anything.

    `lane_prediction_error` is the mean |predicted / measured - 1| of busy time over groups of
    consecutive steps, and under "step" that of the duration over single steps; predictions are the
    belief's, made by running the very plans of the run on simulated lanes.
    """

    is_trustworthy: bool = True
    distrust: str | None = None  # why not
    gpu_threads: int | None = None  # threads of the GPU lane, where it computes on the CPU
    cpu_threads: int
    host_kv_tokens_limit: int  # KV tokens that the memory of this machine holds on the host tier
    python_s_per_step: Spread | None = None  # between steps and to begin one: nothing overlaps it
    lane_cpu_s: dict[str, float] = Field(default_factory=dict)  # CPU time of the lane's threads
    lane_measured_s: dict[str, float] = Field(default_factory=dict)
    lane_predicted_s: dict[str, float] = Field(default_factory=dict)
    lane_prediction_error: dict[str, float] = Field(default_factory=dict)
    lateness_s: Spread | None = None  # emulated GPU operations: real end minus modelled end
