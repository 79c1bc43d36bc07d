"""A cost model from what ops were measured to take on this machine; measures nothing itself."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from apexbench.engine.attention_curve import curve_through
from apexbench.records import NS_PER_S

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class MeasuredTimes:
    """Seconds of one layer's ops, and of those that run once per step. Points ascend in rows or
    tokens, which begin above 0.

    `linear_s` by rows, `pre_share` of it before attention; `head_s` and `embed_s` by rows;
    attention by tokens of one row, beside `*_fixed_s` per call; `prefill_s_per_pair` for every pair
    of a new token and one it attends to, beside `prefill_s_per_token` and `prefill_fixed_s` per
    chunk; `send_s` and `recv_s` by rows; `copy_bytes_per_s` in both directions.
    """

    num_layers: int
    kv_bytes_gpu: int
    kv_bytes_cpu: int
    linear_s: Points
    pre_share: float
    head_s: Points
    embed_s: Points
    gpu_attention_s: Points
    gpu_attention_fixed_s: float
    prefill_fixed_s: float
    prefill_s_per_token: float
    prefill_s_per_pair: float
    cpu_attention_s: Points
    cpu_dispatch_s: float
    send_s: Points
    recv_s: Points
    copy_bytes_per_s: float
    copy_fixed_s: float
    schedule_s: float
    schedule_s_per_row: float


class MeasuredCosts:
    """Interpolates in rows, keeps the laws of attention in tokens (see attention_curve)."""

    def __init__(self, times: MeasuredTimes) -> None:
        self.times = times
        self._linear = _Curve(times.linear_s)
        self._head = _Curve(times.head_s)
        self._embed = _Curve(times.embed_s)
        self._send = _Curve(times.send_s)
        self._recv = _Curve(times.recv_s)
        self._gpu_attention = curve_through(*zip(*times.gpu_attention_s, strict=True))
        self._cpu_attention = curve_through(*zip(*times.cpu_attention_s, strict=True))

    @property
    def num_layers(self) -> int:
        return self.times.num_layers

    @property
    def kv_bytes_per_token_layer_gpu(self) -> int:
        return self.times.kv_bytes_gpu

    @property
    def kv_bytes_per_token_layer_cpu(self) -> int:
        return self.times.kv_bytes_cpu

    @cached_property
    def captured(self) -> "MeasuredCosts":
        return self  # nothing is captured and replayed where torch runs on the CPU

    def pre_ns(self, rows: int) -> int:
        return round(self.linear_ns(rows) * self.times.pre_share)

    def post_ns(self, rows: int) -> int:
        return self.linear_ns(rows) - self.pre_ns(rows)

    def linear_ns(self, rows: int) -> int:
        return self._linear.ns(rows)

    def gpu_decode_attention_ns(self, rows: int, kv_tokens: int) -> int:
        if rows == 0:
            return 0
        job = self._gpu_attention.job_seconds(rows, kv_tokens)
        return _ns(self.times.gpu_attention_fixed_s + job)

    def gpu_prefill_attention_ns(self, chunks: tuple[tuple[int, int], ...]) -> int:
        times = self.times
        total = 0.0
        for new, before in chunks:
            pairs = new * before + new * (new + 1) / 2
            total += times.prefill_fixed_s + times.prefill_s_per_token * new
            total += times.prefill_s_per_pair * pairs
        return _ns(total)

    def head_ns(self, rows: int) -> int:
        return self._head.ns(rows)

    def embed_ns(self, rows: int) -> int:
        return self._embed.ns(rows)

    def cpu_attention_ns(self, rows: int, kv_tokens: int, copy_bytes: int = 0) -> int:  # noqa: ARG002 - copies are small beside the memory's rate here
        if rows == 0:
            return 0
        return _ns(self._cpu_attention.job_seconds(rows, kv_tokens))

    def cpu_dispatch_ns(self) -> int:
        return _ns(self.times.cpu_dispatch_s)

    def send_ns(self, rows: int) -> int:
        return self._send.ns(rows)

    def recv_ns(self, rows: int) -> int:
        return self._recv.ns(rows)

    def copy_ns(self, direction: str, num_bytes: int) -> int:  # noqa: ARG002 - one memory, both ways
        if num_bytes == 0:
            return 0
        return _ns(self.times.copy_fixed_s + num_bytes / self.times.copy_bytes_per_s)

    def schedule_ns(self, rows: int, captured: bool) -> int:  # noqa: ARG002 - nothing is captured
        return _ns(self.times.schedule_s + rows * self.times.schedule_s_per_row)


class _Curve:
    """Piecewise linear through points that never fall; flat below the first, the last piece goes on
    beyond the end.
    """

    def __init__(self, points: Points) -> None:
        self._x = [x for x, _ in points]
        self._y = _rising([y for _, y in points])

    def ns(self, x: float) -> int:
        """Nanoseconds at x; nothing takes none."""
        return _ns(self._at(x)) if x else 0

    def _at(self, x: float) -> float:
        if x <= self._x[0] or len(self._x) == 1:
            return self._y[0]
        right = min(bisect_left(self._x, x), len(self._x) - 1)
        left = right - 1
        share = (x - self._x[left]) / (self._x[right] - self._x[left])
        return self._y[left] + share * (self._y[right] - self._y[left])


def _rising(values: Sequence[float]) -> list[float]:
    """More rows never take less time: a value below one before it is noise and is lifted."""
    lifted: list[float] = []
    for value in values:
        lifted.append(max(value, lifted[-1] if lifted else 0.0))
    return lifted


def _ns(seconds: float) -> int:
    """Nanoseconds, half to even; a positive duration never vanishes."""
    return max(1, round(seconds * NS_PER_S)) if seconds > 0 else 0
