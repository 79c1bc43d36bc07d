"""What runs together say: comparisons, sweeps and sensitivities of a result document."""

from apexbench.result.base import Document, Kind, Verdict


class Comparison(Document):
    """Candidate over baseline, paired by seed, only where both served the same requests.

    `ratio` is candidate / baseline (geometric mean over `n` seeds) with a 95 % interval; the
    interval is None when n is 1. `verdict` takes into account whether more is better.
    """

    setting: str
    baseline: str
    candidate: str
    metric: str
    ratio: float
    ci_low: float | None
    ci_high: float | None
    n: int
    verdict: Verdict


class SweepPoint(Document):
    """One point of a sweep: the swept values in the order of `Sweep.parameters`, one variant.

    The ratio is over the sweep's baseline at the same point, paired by seed, with a 95 % interval
    that is None when n is 1; all of it is None for the baseline itself and where the two did not
    serve the same requests.
    """

    values: tuple[float, ...]
    variant: str
    output_throughput_tok_s: float  # at saturation, mean over seeds
    gpu_kv_tokens: int
    cpu_kv_tokens: int
    tpot_p50_s: float | None
    tpot_p90_s: float | None = None  # None where some seed has too few requests for it
    n: int
    is_steady: bool
    ratio: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    verdict: Verdict | None = None


class Sweep(Document):
    """One or two parameters varied over a grid, everything else held, at saturation.

    `nominal` is what the scenario has without the sweep, in the order of `parameters`.
    """

    scenario: str
    parameters: tuple[str, ...]
    baseline: str
    num_requests: int  # asked for per run; all points serve the same ones
    nominal: tuple[float, ...]
    points: tuple[SweepPoint, ...]


class Sensitivity(Document):
    """A bar of the tornado: the ratio when one constant is one sigma lower or higher.

    `nominal`, `low` and `high` are candidate / baseline output throughput at saturation, belief
    held, one seed. `sigma` is relative.
    """

    scenario: str
    baseline: str
    candidate: str
    device: str
    constant: str
    kind: Kind
    sigma: float
    nominal: float
    low: float
    high: float
