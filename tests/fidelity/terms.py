"""What the simulator's model of the host lacks, taken from the runs that may be seen.

Three terms: what a step costs the host in Python, what lies between q, k and v at hand and a job
that runs, and how much longer attention takes beside busy lanes than alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from apexbench.engine.attention_curve import AttentionCurve
from apexbench.engine.costs import ProfileCosts
from apexbench.engine.deployment import Deployment
from apexbench.engine.gpu_ops import gpu_ops
from apexbench.engine.host_ops import HostOps
from apexbench.engine.profile_files import Constant
from tests.fidelity.record import Recorded
from tests.fidelity.replay import service_ns

_US = 1e-3  # of a nanosecond


@dataclass(frozen=True, slots=True)
class Line:
    """Microseconds of a step: `base_us + layer_us x layers`."""

    base_us: float
    layer_us: float

    def us(self, num_layers: int) -> float:
        """Of a model of so many layers."""
        return self.base_us + self.layer_us * num_layers


@dataclass(frozen=True, slots=True)
class Terms:
    """`eager` and `captured` are the host's time per step, in all; `contention` what attention
    takes beside busy lanes over what the profile says.
    """

    eager: Line
    captured: Line
    dispatch_ns: int
    contention: float


def terms_of(seen: Sequence[Recorded], host: str) -> Terms:
    """Medians and sums over all runs."""
    waits = np.concatenate([run.jobs["submit_ns"] - run.jobs["ready_ns"] for run in seen])
    return Terms(
        eager=_line(seen, captured=False),
        captured=_line(seen, captured=True),
        dispatch_ns=int(np.median(waits)) if len(waits) else 0,
        contention=_contention(seen, host),
    )


def costs_with(deployment: Deployment, terms: Terms) -> ProfileCosts:
    """The deployment's costs, with the terms in place of what its host's profile says of them."""
    layers = deployment.model.num_layers
    host = replace(
        deployment.host,
        eager_step_us=_constant(deployment.host.eager_step_us, terms.eager.us(layers)),
        captured_step_us=_constant(deployment.host.captured_step_us, terms.captured.us(layers)),
        eager_row_us=_constant(deployment.host.eager_row_us, 0.0),
        captured_row_us=_constant(deployment.host.captured_row_us, 0.0),
    )
    gpu = gpu_ops(deployment.gpu, deployment.model, deployment.weight_dtype, deployment.kv_dtype)
    return ProfileCosts(gpu, _host_ops(deployment.host_ops(), terms), host)


def _host_ops(ops: HostOps, terms: Terms) -> HostOps:
    factor, curve = terms.contention, ops.curve
    if curve is not None:
        curve = AttentionCurve(curve.tokens, tuple(s * factor for s in curve.seconds))
    return replace(
        ops,
        kernel_bytes_per_s=ops.kernel_bytes_per_s / factor,
        dram_bytes_per_s=ops.dram_bytes_per_s / factor,
        row_s=ops.row_s * factor,
        curve=curve,
        dispatch_s=terms.dispatch_ns * 1e-9,
    )


def _constant(constant: Constant, value: float) -> Constant:
    return replace(constant, value=value)


def _line(seen: Iterable[Recorded], *, captured: bool) -> Line:
    """Through the median step of each run; flat where all have as many layers."""
    layers, medians = [], []
    for run in seen:
        took = [
            int(fact["scheduled_ns"] - fact["begin_ns"]) - plan.planning_ns
            for plan, fact in zip(run.plans, run.facts, strict=True)
            if (plan.strategy == "gpu_only" and plan.is_decode_only) == captured
        ]
        if took:
            layers.append(run.case.num_layers)
            medians.append(float(np.median(took)) * _US)
    if len(set(layers)) < 2:
        return Line(float(np.mean(medians)) if medians else 0.0, 0.0)
    slope, base = np.polyfit(layers, medians, 1)
    return Line(float(base), max(0.0, float(slope)))


def _contention(seen: Iterable[Recorded], host: str) -> float:
    """Measured over modelled attention, all jobs together."""
    measured = modelled = 0
    for run in seen:
        costs = run.case.deployment(host).costs()
        measured += int(service_ns(run.jobs, run.jobs["submit_ns"]).sum())
        pairs, counts = np.unique(run.jobs[["rows", "kv_tokens"]], return_counts=True)
        modelled += sum(
            costs.cpu_attention_ns(int(pair["rows"]), int(pair["kv_tokens"])) * int(count)
            for pair, count in zip(pairs, counts, strict=True)
        )
    return measured / modelled if modelled else 1.0
