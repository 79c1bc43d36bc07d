"""What a step will take, predicted from the belief's costs of the step program. Runs no lanes.

Per layer, T_lin linear work of a batch, T_att GPU attention, C CPU attention of a batch's in-layer
rows, lat their send, dispatch and join:

    one batch    T_lin(A) + max(T_att, C_A + lat)
    two batches  max(T_lin(A) + T_att + T_lin(B), C_A + C_B,
                     C_A + lat + T_lin(A), C_B + lat + T_lin(B))

Cohorts that join lengthen one launch group each; together with the in-layer rows they must not
keep the CPU busy for longer than the step.
"""

from collections.abc import Sequence
from typing import NamedTuple

from apexbench.engine.costs import CostModel
from apexbench.engine.plan import PrefillChunk, host_bound_tokens
from apexbench.engine.policies.base import Candidates, Row
from apexbench.engine.policies.calibration import Calibration
from apexbench.engine.policies.sizing import ByRows, RowCosts, prefill_attention_ns

# Prompt tokens between which linear work is proportional to tokens: weights no longer matter.
_MANY, _MORE = 2048, 4096
# Rows over which the cost of an average CPU row is taken.
_SAMPLE_ROWS = 64
# By which CPU time is changed to see whether a step depends on it.
_SLOWER = 1.05


class Placed(NamedTuple):
    """CPU rows of a candidate plan: B has the first of the serving order, A the next, and those
    that enter a cohort are the last. `joins` False leaves outstanding cohorts where they are.
    """

    in_a: int = 0
    in_b: int = 0
    entering: int = 0
    joins: bool = True

    @property
    def in_layer(self) -> int:
        """In-layer rows of both batches."""
        return self.in_a + self.in_b


class Ground(NamedTuple):
    """What all candidate plans of one step share; times per layer.

    `kv_tokens[n]` is what attention over the first n CPU rows of the serving order reads;
    `row_ns` is CPU attention of an average row, `cpu_ratio` the correction in it, `copy_bytes` bulk
    KV of prompts through the link. Times are uncalibrated but for the CPU's ratio to the GPU's.
    """

    gpu_rows: int
    prefill_tokens: int
    num_chunks: int
    decode_attention_ns: int
    prefill_attention_ns: int
    copies_ns: int
    copy_bytes: int
    kv_tokens: Sequence[int]
    row_ns: float
    cpu_ratio: float
    num_cohorts: int
    deferred_rows: int

    @property
    def attention_ns(self) -> int:
        """T_att: decode rows and prompts."""
        return self.decode_attention_ns + self.prefill_attention_ns

    @property
    def base_rows(self) -> int:
        """Linear rows of the GPU's own work."""
        return self.gpu_rows + self.prefill_tokens

    def deferred(self, placed: Placed) -> int:
        """Rows in cohorts that move in this step."""
        return placed.entering + (self.deferred_rows if placed.joins else 0)

    def with_prompt(self, tokens: int) -> "Ground":
        """The same mix with another number of prompt tokens, their costs in proportion."""
        share = tokens / self.prefill_tokens if self.prefill_tokens else 0.0
        return self._replace(
            prefill_tokens=tokens,
            num_chunks=min(self.num_chunks, tokens),
            prefill_attention_ns=int(self.prefill_attention_ns * share),
            copies_ns=int(self.copies_ns * share),
            copy_bytes=int(self.copy_bytes * share),
        )


class Forecast:
    """Durations under one belief, in nanoseconds, with what calibration has learnt of it; equal
    questions are asked once.
    """

    def __init__(self, belief: CostModel) -> None:
        self.num_layers = belief.num_layers
        self.calibration = Calibration()
        self._eager = belief
        self._captured = belief.captured
        costs = RowCosts(belief)
        self.linear, self.link = costs.linear, costs.link
        self._linear_captured = ByRows(self._captured.linear_ns)
        grown = self.linear[_MORE] - self.linear[_MANY]
        self._prompt_token_ns = self.num_layers * grown / (_MORE - _MANY)

    @property
    def prompt_token_ns(self) -> float:
        """What a prompt token costs where weights are read for many tokens at once."""
        return self._prompt_token_ns * self.calibration.scale

    def ground(self, work: Candidates, rows: Sequence[Row], usual_context: float) -> Ground:
        """The step at hand. `rows`: free CPU rows in serving order; `usual_context`: tokens of an
        average CPU row where none is free.
        """
        belief, chunks = self._eager, work.chunks
        kv_tokens = [0]
        for row in rows:
            kv_tokens.append(kv_tokens[-1] + row.computed + 1)
        context = kv_tokens[-1] / len(rows) if rows else usual_context
        copies_ns, copy_bytes = self._copies(chunks)
        sample = belief.cpu_attention_ns(_SAMPLE_ROWS, int(_SAMPLE_ROWS * context), copy_bytes)
        return Ground(
            gpu_rows=work.num_gpu_rows,
            prefill_tokens=work.prefill_tokens,
            num_chunks=len(chunks),
            decode_attention_ns=belief.gpu_decode_attention_ns(
                work.num_gpu_rows, work.gpu_kv_tokens
            ),
            prefill_attention_ns=prefill_attention_ns(belief, chunks),
            copies_ns=copies_ns,
            copy_bytes=copy_bytes,
            kv_tokens=kv_tokens,
            row_ns=max(1.0, sample / _SAMPLE_ROWS * self.calibration.cpu_ratio),
            cpu_ratio=self.calibration.cpu_ratio,
            num_cohorts=work.num_cohorts,
            deferred_rows=work.deferred_rows,
        )

    def step_ns(self, ground: Ground, placed: Placed) -> float:
        """The whole step: layers, what the program does once, and the wait for a busy CPU."""
        deferred = ground.deferred(placed)
        is_plain = not (placed.in_layer or deferred or ground.prefill_tokens)
        costs = self._captured if is_plain else self._eager
        layers = self.num_layers * self._layer_ns(ground, placed, is_plain=is_plain)
        sampled = ground.gpu_rows + placed.in_layer
        sequences = sampled + ground.num_chunks + deferred
        once = costs.embed_ns(ground.base_rows + placed.in_layer) + costs.head_ns(max(1, sampled))
        step = float(layers + once + costs.schedule_ns(sequences, is_plain))
        if deferred:
            step += self._joins_ns(ground, placed, deferred)
            in_layer_ns = self.num_layers * placed.in_layer * ground.row_ns
            step = max(step, deferred * ground.row_ns + in_layer_ns)
        return step * self.calibration.scale

    def prompt_ns(self, ground: Ground) -> float:
        """What of a step its prompt tokens cost wherever they are computed."""
        attention = self.num_layers * ground.prefill_attention_ns
        return ground.prefill_tokens * self.prompt_token_ns + attention * self.calibration.scale

    def cpu_share(self, ground: Ground, placed: Placed) -> float:
        """d(ln step) / d(ln CPU time): 0 where the CPU is hidden, 1 where it alone counts."""
        if not (placed.in_layer or ground.deferred(placed)):
            return 0.0
        slower = ground._replace(
            row_ns=ground.row_ns * _SLOWER, cpu_ratio=ground.cpu_ratio * _SLOWER
        )
        before = self.step_ns(ground, placed)
        return (self.step_ns(slower, placed) / before - 1) / (_SLOWER - 1)

    def _layer_ns(self, ground: Ground, placed: Placed, *, is_plain: bool) -> int:
        linear = self._linear_captured if is_plain else self.linear
        in_a, in_b = placed.in_a, placed.in_b
        first, attention = linear[max(1, ground.base_rows + in_a)], ground.attention_ns
        cpu_a = self._cpu_ns(ground, in_b, in_a)
        delay_a = cpu_a + self.link[in_a] if in_a else 0
        if not in_b:
            return max(first + max(attention, delay_a), ground.copies_ns)
        second, cpu_b = linear[in_b], self._cpu_ns(ground, 0, in_b)
        return max(
            first + attention + second,
            cpu_a + cpu_b,
            delay_a + first,
            cpu_b + self.link[in_b] + second,
            ground.copies_ns,
        )

    def _cpu_ns(self, ground: Ground, start: int, count: int) -> int:
        """CPU attention of rows in serving order; rows beyond those at hand are average ones."""
        stop, kv_tokens = start + count, ground.kv_tokens
        if stop >= len(kv_tokens):
            return int(count * ground.row_ns)
        read = kv_tokens[stop] - kv_tokens[start]
        return int(self._eager.cpu_attention_ns(count, read, ground.copy_bytes) * ground.cpu_ratio)

    def _joins_ns(self, ground: Ground, placed: Placed, deferred: int) -> int:
        """Each cohort lengthens the launch group it joins."""
        cohorts = (ground.num_cohorts if placed.joins else 0) + (placed.entering > 0)
        rows = max(1, ground.base_rows + placed.in_a)
        each = -(-deferred // max(1, cohorts))
        return cohorts * (self.linear[rows + each] - self.linear[rows])

    def _copies(self, chunks: tuple[PrefillChunk, ...]) -> tuple[int, int]:
        """Bulk KV of CPU-bound prompts per layer: time of the busier direction, and bytes."""
        per_token = self._eager.kv_bytes_per_token_layer_cpu
        out, back = (tokens * per_token for tokens in host_bound_tokens(chunks))
        if not out:
            return 0, 0
        copy_ns = self._eager.copy_ns
        return max(copy_ns("d2h", out), copy_ns("h2d", back)), out + back
