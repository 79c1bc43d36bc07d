"""APEX as published: its inequality picks between asymmetric pipelining and deferral, literally.

The rule compares two_batch with gpu_only, never with deferred. What that costs is to be reported,
not repaired (arXiv 2506.03296, eq. 6).
"""

from apexbench.engine.policies.base import GPU_ONLY, Candidates, Choice, PolicyContext
from apexbench.engine.policies.deferral import Deferral
from apexbench.engine.policies.sizing import (
    RowCosts,
    gpu_attention_ns,
    prefill_attention_ns,
    two_batch_rows,
)

PAPER_COHORTS = 1


class Apex:
    """GPU first; the CPU queue is used only under GPU-memory pressure."""

    name = "apex"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._belief = context.belief
        self._costs = RowCosts(context.belief)
        self._thresholds = context.thresholds
        self._deferral = Deferral(context, PAPER_COHORTS)

    def choose(self, work: Candidates) -> Choice:
        """gpu_only without CPU rows, else two_batch or deferred by the published inequality."""
        available = len(work.cpu_rows) + work.deferred_rows
        if available == 0 or available < self._thresholds.min_cpu_rows:
            return GPU_ONLY
        if work.base_rows == 0:  # the rule divides by GPU attention: there is none
            return self._deferral.drain(work)
        if work.cpu_rows and self.prefers_two_batch(work):
            first, second = two_batch_rows(self._costs, work, self._thresholds.max_running_rows)
            choice = Choice(in_layer_a=first, in_layer_b=second)
        else:
            choice = Choice(enter=self._deferral.entering(work))
        return choice if self._gains_enough(work, choice) else GPU_ONLY

    def _gains_enough(self, work: Candidates, choice: Choice) -> bool:
        """The predicted gain over gpu_only reaches `offload_gain_margin` (0 accepts everything)."""
        margin = self._thresholds.offload_gain_margin
        if margin == 0 or work.num_gpu_rows == 0:
            return True
        belief = self._belief
        attention = gpu_attention_ns(belief, work)
        alone = belief.linear_ns(work.base_rows) + attention
        if choice.in_layer_b:
            rows = work.base_rows + len(choice.in_layer_a)
            both = belief.linear_ns(rows) + attention + belief.linear_ns(len(choice.in_layer_b))
            extra = len(choice.in_layer_a) + len(choice.in_layer_b)
            gain = (1 + extra / work.num_gpu_rows) * alone / max(1, both) - 1
        else:
            deferred = work.deferred_rows + len(choice.enter)
            gain = deferred / (belief.num_layers + 1) / work.num_gpu_rows
        return gain >= margin

    def prefers_two_batch(self, work: Candidates) -> bool:
        """N_G/N_C against the right side of eq. (6), times `two_batch_bias`.

        N_G, N_C are rows per second of GPU and CPU attention for the rows at hand. Decode-only:
        2 T_lin/T_gatt + 3 + T_gatt/T_lin. Mixed: T_ov (T_ov - T_lin) / (T_gatt T_lin), with
        T_ov = T_lin_prefill + T_pref + T_lin + T_gatt, T_lin of B, T_lin_prefill of A.
        """
        belief = self._belief
        attention = belief.gpu_decode_attention_ns(work.num_gpu_rows, work.gpu_kv_tokens)
        cpu = belief.cpu_attention_ns(len(work.cpu_rows), work.cpu_kv_tokens)
        linear = belief.linear_ns(len(work.cpu_rows) if work.chunks else work.num_gpu_rows)
        if 0 in (attention, cpu, linear):
            return True  # the left side vanishes, or the right side grows without bound
        ratio = (work.num_gpu_rows / attention) / (len(work.cpu_rows) / cpu)
        right_side = self._right_side(work, linear, attention)
        return ratio < right_side * self._thresholds.two_batch_bias

    def _right_side(self, work: Candidates, linear: int, attention: int) -> float:
        if not work.chunks:
            return 2 * linear / attention + 3 + attention / linear
        belief = self._belief
        prefill = belief.linear_ns(work.base_rows) + prefill_attention_ns(belief, work.chunks)
        overlap = prefill + linear + attention
        return overlap * (overlap - linear) / (attention * linear)
