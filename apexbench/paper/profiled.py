"""What the profiles and the implemented rule say without any traffic; simulates nothing."""

from dataclasses import dataclass

from apexbench.engine.costs import CostModel, FlatCosts
from apexbench.engine.deployment import Deployment
from apexbench.engine.policies.apex import Apex
from apexbench.engine.policies.base import Candidates, PolicyContext
from apexbench.engine.predict.layer import predict
from apexbench.engine.predict.machine import Machine
from apexbench.engine.predict.mix import Mix
from apexbench.engine.thresholds import Thresholds

# Attention rates are compared over this many rows of this context, long enough for latencies of
# single kernels to vanish.
_ROWS = 16
_CONTEXT = 2048
# A layer of one second in whole nanoseconds leaves the bisection nine digits.
_LINEAR_S = 1.0
_SHARE_DIGITS = 1e-9
_LONGEST_CONTEXT = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One layer's decode attention of the same rows on both sides."""

    context: int
    cpu_s: float
    gpu_s: float


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as a policy may see it: nothing computed, nothing answered."""

    id: int = 0
    computed: int = 0
    generated: int = 0
    first_token_ns: int = 0


@dataclass(frozen=True, slots=True)
class AttentionRates:
    """KV bytes that decode attention reads, in GB/s."""

    gpu_gb_per_s: float
    cpu_gb_per_s: float


def attention_rates(deployment: Deployment) -> AttentionRates:
    """Both sides on equal rows, as the cost model charges them."""
    costs, tokens = deployment.costs(), _ROWS * _CONTEXT
    gpu_bytes = tokens * costs.kv_bytes_per_token_layer_gpu
    cpu_bytes = tokens * costs.kv_bytes_per_token_layer_cpu
    return AttentionRates(  # bytes per nanosecond are GB/s
        gpu_bytes / costs.gpu_decode_attention_ns(_ROWS, tokens),
        cpu_bytes / costs.cpu_attention_ns(_ROWS, tokens),
    )


def profile_sample(deployment: Deployment, rows: int, cpu_us: float) -> Sample:
    """Both attentions at the context, in whole tokens per row, at which the CPU takes `cpu_us`."""
    context = _context_for(deployment.costs(), rows, cpu_us * 1e3)
    tokens = rows * context
    mix = Mix(rows=rows, kv_tokens=tokens, cpu_rows=rows, cpu_kv_tokens=tokens)
    ops = {op.name: op.seconds for op in predict(Machine(deployment), mix).layer.ops}
    return Sample(context, ops["cpu_attention"], ops["gpu_attention"])


def _context_for(costs: CostModel, rows: int, cpu_ns: float) -> int:
    """The longest context whose CPU attention takes no longer, by bisection."""
    low, high = 1, _LONGEST_CONTEXT
    while high - low > 1:
        middle = (low + high) // 2
        if costs.cpu_attention_ns(rows, rows * middle) <= cpu_ns:
            low = middle
        else:
            high = middle
    return low


def rule_share(attention_over_linear: float) -> float:
    """N_C/N_G from which the implemented rule prefers two_batch in a decode-only step.

    Bisects the policy itself; eq. (6) of arXiv 2506.03296 solved for it by hand is
    1 / (2/x + 3 + x), x = T_gatt/T_lin.
    """
    low, high = 0.0, 1.0
    while high - low > _SHARE_DIGITS:
        middle = (low + high) / 2
        if _prefers_two_batch(attention_over_linear, middle):
            high = middle
        else:
            low = middle
    return high


def _prefers_two_batch(attention_over_linear: float, share: float) -> bool:
    """One row on each side, with N_C/N_G = `share`."""
    attention_s = attention_over_linear * _LINEAR_S
    costs = FlatCosts(
        num_layers=1,
        linear_s=_LINEAR_S,
        gpu_attention_s=attention_s,
        cpu_attention_s_per_row=attention_s / share,
    )
    rule = Apex(PolicyContext(costs, Thresholds()))
    work = Candidates(
        chunks=(),
        num_gpu_rows=1,
        gpu_kv_tokens=1,
        cpu_rows=(_Row(),),
        cpu_kv_tokens=1,
        num_cohorts=0,
        deferred_rows=0,
        steps_since_entry=0,
    )
    return rule.prefers_two_batch(work)
