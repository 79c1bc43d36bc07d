"""What each op of the step program takes, in integer nanoseconds. Predicts; measures nothing.

Durations are per layer unless a docstring says "per step", rounded half to even once, at least
1 ns for work that happens and 0 for no work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from apexbench.engine.gpu_ops import POST_KERNELS, PRE_KERNELS, GpuOps
from apexbench.engine.hardware import HostProfile
from apexbench.engine.host_ops import HostOps
from apexbench.records import NS_PER_S

# Kernels launched per layer: the small ones, one projection before attention and three after it,
# and the attention itself.
_PRE_LAUNCHES = PRE_KERNELS + 1
_POST_LAUNCHES = POST_KERNELS + 3
_LAYER_LAUNCHES = _PRE_LAUNCHES + _POST_LAUNCHES + 1


class CostModel(Protocol):
    """Everything the simulator charges and the policies believe."""

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model."""
        ...

    @property
    def kv_bytes_per_token_layer_gpu(self) -> int:
        """K and V of one token in one layer in the GPU tier's dtype."""
        ...

    @property
    def kv_bytes_per_token_layer_cpu(self) -> int:
        """K and V of one token in one layer in the CPU tier's dtype."""
        ...

    @property
    def captured(self) -> "CostModel":
        """The same hardware with steps replayed from captured graphs; itself if already so."""
        ...

    def pre_ns(self, rows: int) -> int:
        """Norm, QKV projection, rotary positions and KV store of `rows` tokens."""
        ...

    def post_ns(self, rows: int) -> int:
        """Output projection, residual, norm and FFN of `rows` tokens."""
        ...

    def linear_ns(self, rows: int) -> int:
        """T_lin: one launch group, exactly `pre_ns + post_ns`."""
        ...

    def gpu_decode_attention_ns(self, rows: int, kv_tokens: int) -> int:
        """T_gatt of `rows` decode rows whose contexts sum to `kv_tokens`."""
        ...

    def gpu_prefill_attention_ns(self, chunks: tuple[tuple[int, int], ...]) -> int:
        """T_pref of chunks (new tokens, context tokens before them)."""
        ...

    def head_ns(self, rows: int) -> int:
        """Per step: final norm, LM head and sampling of `rows` sampled rows."""
        ...

    def embed_ns(self, rows: int) -> int:
        """Per step: embedding of `rows` tokens."""
        ...

    def cpu_attention_ns(self, rows: int, kv_tokens: int, copy_bytes: int = 0) -> int:
        """One CPU job of one layer, per-row work included, dispatch excluded.

        `copy_bytes` is the bulk PCIe traffic through host memory meanwhile.
        """
        ...

    def cpu_dispatch_ns(self) -> int:
        """Fixed cost to start a CPU job and to join it."""
        ...

    def send_ns(self, rows: int) -> int:
        """q, k, v of `rows` CPU rows to the host, latency included."""
        ...

    def recv_ns(self, rows: int) -> int:
        """Attention output of `rows` CPU rows to the GPU, latency included."""
        ...

    def copy_ns(self, direction: str, num_bytes: int) -> int:
        """Bulk KV copy, direction "h2d" or "d2h", in pieces."""
        ...

    def schedule_ns(self, rows: int, captured: bool) -> int:
        """Per step, on the host lane: scheduling, input preparation and output handling.

        `rows` are sequences: a prompt chunk counts once, however many tokens it has.
        """
        ...


class ProfileCosts:
    """Costs from device profiles: one model on one GPU and host with one CPU kernel.

    Eager steps cannot launch a layer faster than the host dispatches it, so pre and post have a
    floor each; replayed graphs (`captured`) have almost none. The floor covers the launch group
    and the attention between, and is shared out by number of kernels.
    """

    def __init__(
        self,
        gpu: GpuOps,
        host: HostOps,
        engine: HostProfile,
        *,
        is_captured: bool = False,
    ) -> None:
        self.num_layers = gpu.model.num_layers
        self.kv_bytes_per_token_layer_gpu = gpu.kv_bytes_per_token_layer
        self.kv_bytes_per_token_layer_cpu = host.kv_bytes_per_token_layer
        self.is_captured = is_captured
        self._gpu = gpu
        self._host = host
        self._engine = engine
        layer = engine.captured_layer_us if is_captured else engine.eager_layer_us
        self._pre_floor_s = layer.value * 1e-6 * _PRE_LAUNCHES / _LAYER_LAUNCHES
        self._post_floor_s = layer.value * 1e-6 * _POST_LAUNCHES / _LAYER_LAUNCHES
        self._pre: dict[int, int] = {0: 0}
        self._post: dict[int, int] = {0: 0}
        self._head: dict[int, int] = {0: 0}
        self._embed: dict[int, int] = {0: 0}

    @cached_property
    def captured(self) -> "ProfileCosts":
        """The twin with captured graphs."""
        if self.is_captured:
            return self
        return ProfileCosts(self._gpu, self._host, self._engine, is_captured=True)

    def pre_ns(self, rows: int) -> int:
        duration = self._pre.get(rows)
        if duration is None:
            duration = _work_ns(max(self._gpu.pre(rows), self._pre_floor_s))
            self._pre[rows] = duration
        return duration

    def post_ns(self, rows: int) -> int:
        duration = self._post.get(rows)
        if duration is None:
            duration = _work_ns(max(self._gpu.post(rows), self._post_floor_s))
            self._post[rows] = duration
        return duration

    def linear_ns(self, rows: int) -> int:
        return self.pre_ns(rows) + self.post_ns(rows)

    def gpu_decode_attention_ns(self, rows: int, kv_tokens: int) -> int:
        return _work_ns(self._gpu.decode_attention(kv_tokens)) if rows else 0

    def gpu_prefill_attention_ns(self, chunks: tuple[tuple[int, int], ...]) -> int:
        seconds = sum(self._gpu.prefill_attention(new, before) for new, before in chunks if new)
        return _work_ns(self._gpu.prefill_attention_latency + seconds) if seconds else 0

    def head_ns(self, rows: int) -> int:
        duration = self._head.get(rows)
        if duration is None:
            duration = self._head[rows] = _work_ns(self._gpu.head(rows))
        return duration

    def embed_ns(self, rows: int) -> int:
        duration = self._embed.get(rows)
        if duration is None:
            duration = self._embed[rows] = _work_ns(self._gpu.embed(rows))
        return duration

    def cpu_attention_ns(self, rows: int, kv_tokens: int, copy_bytes: int = 0) -> int:
        return _work_ns(self._host.attention(rows, kv_tokens, copy_bytes)) if rows else 0

    def cpu_dispatch_ns(self) -> int:
        return _ns(self._host.dispatch_s)

    def send_ns(self, rows: int) -> int:
        return _work_ns(self._host.send(rows)) if rows else 0

    def recv_ns(self, rows: int) -> int:
        return _work_ns(self._host.recv(rows)) if rows else 0

    def copy_ns(self, direction: str, num_bytes: int) -> int:
        return _work_ns(self._host.copy(direction, num_bytes)) if num_bytes else 0

    def schedule_ns(self, rows: int, captured: bool) -> int:
        engine = self._engine
        if captured:
            return _ns((engine.captured_step_us.value + engine.captured_row_us.value * rows) * 1e-6)
        return _ns((engine.eager_step_us.value + engine.eager_row_us.value * rows) * 1e-6)


def _work_ns(seconds: float) -> int:
    """Nanoseconds of work that happens: never zero, half to even."""
    return max(1, round(seconds * NS_PER_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatCosts:
    """Injected constants, for tests of physics against closed formulas. Seconds, default 0.

    `linear_s` is T_lin, flat or a function of rows; `pre_share` of it goes to pre, the rest to
    post. Attention costs a flat part (when there are rows) plus a part per KV token or row. A
    cost that is zero takes 0 ns even when there is work: here zero means "left out".
    """

    num_layers: int
    linear_s: float | Callable[[int], float] = 0.0
    pre_share: float = 0.25
    gpu_attention_s: float = 0.0
    gpu_attention_s_per_token: float = 0.0
    prefill_attention_s_per_token: float = 0.0  # per (new token x mean context it attends to)
    head_s: float = 0.0
    embed_s: float = 0.0
    cpu_attention_s: float = 0.0
    cpu_attention_s_per_row: float = 0.0
    cpu_attention_s_per_token: float = 0.0
    cpu_dispatch_s: float = 0.0
    send_s: float = 0.0
    recv_s: float = 0.0
    copy_s_per_byte: float = 0.0
    schedule_s: float = 0.0
    schedule_s_per_row: float = 0.0
    kv_bytes_per_token_layer_gpu: int = 16384
    kv_bytes_per_token_layer_cpu: int = 16384

    @property
    def captured(self) -> "FlatCosts":
        return self

    def pre_ns(self, rows: int) -> int:
        return round(self.linear_ns(rows) * self.pre_share)

    def post_ns(self, rows: int) -> int:
        return self.linear_ns(rows) - self.pre_ns(rows)

    def linear_ns(self, rows: int) -> int:
        if rows == 0:
            return 0
        return _ns(self.linear_s(rows) if callable(self.linear_s) else self.linear_s)

    def gpu_decode_attention_ns(self, rows: int, kv_tokens: int) -> int:
        if rows == 0:
            return 0
        return _ns(self.gpu_attention_s + self.gpu_attention_s_per_token * kv_tokens)

    def gpu_prefill_attention_ns(self, chunks: tuple[tuple[int, int], ...]) -> int:
        pairs = sum(new * before + new * (new + 1) / 2 for new, before in chunks)
        return _ns(self.prefill_attention_s_per_token * pairs)

    def head_ns(self, rows: int) -> int:
        return _ns(self.head_s) if rows else 0

    def embed_ns(self, rows: int) -> int:
        return _ns(self.embed_s) if rows else 0

    def cpu_attention_ns(self, rows: int, kv_tokens: int, copy_bytes: int = 0) -> int:  # noqa: ARG002 - no contention here
        if rows == 0:
            return 0
        per_row = self.cpu_attention_s_per_row * rows
        return _ns(self.cpu_attention_s + per_row + self.cpu_attention_s_per_token * kv_tokens)

    def cpu_dispatch_ns(self) -> int:
        return _ns(self.cpu_dispatch_s)

    def send_ns(self, rows: int) -> int:
        return _ns(self.send_s) if rows else 0

    def recv_ns(self, rows: int) -> int:
        return _ns(self.recv_s) if rows else 0

    def copy_ns(self, direction: str, num_bytes: int) -> int:  # noqa: ARG002 - both alike here
        return _ns(self.copy_s_per_byte * num_bytes)

    def schedule_ns(self, rows: int, captured: bool) -> int:  # noqa: ARG002 - both alike here
        return _ns(self.schedule_s + self.schedule_s_per_row * rows)


def _ns(seconds: float) -> int:
    """Nanoseconds, half to even; a positive duration never vanishes."""
    return max(1, round(seconds * NS_PER_S)) if seconds > 0 else 0
