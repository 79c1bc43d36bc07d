"""Measures what the ops of the real model take on this machine, for the belief of policies.

Every op is run as the lanes run it, on the threads that they use, and the median of a few repeats
is kept. Weights and KV are larger than caches only if the model is: that is how it will run.
"""

import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from itertools import cycle

import torch
from torch import Tensor

from apexbench.cpu_kernels import KvCache, Pool
from apexbench.cpu_kernels.geometry import KvDtype
from apexbench.engine.clock import WallClock
from apexbench.engine.executors.cpu.host_rows import HostLane, HostRows
from apexbench.engine.executors.cpu.kv import GpuPool, HostPool
from apexbench.engine.executors.cpu.opening import Threading, geometry_of, pin_gpu_lane
from apexbench.engine.executors.cpu.rows import batch_of
from apexbench.engine.executors.cpu.sequences import Sequences, random_prompt
from apexbench.engine.executors.threads.hand_over import hand_over_seconds
from apexbench.engine.measured_costs import MeasuredCosts, MeasuredTimes, Points
from apexbench.engine.model.attention import PagedAttention
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.plan import SubBatch
from apexbench.engine.step_ops import URGENT
from apexbench.engine.tiers import Pools
from apexbench.records import NS_PER_S, Request
from apexbench.result import DeviceConstant

ROWS = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (32, 128, 512, 2048)
ATTENTION_ROWS = 8
REPEATS = 5
CHUNKS = ((16, 0), (64, 0), (64, 256), (256, 0))  # (new tokens, tokens before them)
_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Calibration:
    """What policies believe of this machine with this model."""

    costs: MeasuredCosts
    threading: Threading

    def constants(self) -> tuple[DeviceConstant, ...]:
        """Every number measured, for the record."""
        threads = f"{self.threading.gpu_threads} + {self.threading.cpu_threads} threads"
        found = []
        for name, value, unit in _numbers(self.costs.times):
            found.append(
                DeviceConstant(
                    device="this machine",
                    name=name,
                    value=value,
                    unit=unit,
                    source=f"median of {REPEATS} at the start of the comparison, {threads}",
                    kind="measured",
                    sigma=0.0,
                )
            )
        return tuple(found)


def _numbers(times: MeasuredTimes) -> list[tuple[str, float, str]]:
    numbers = []
    for field in fields(times):
        value = getattr(times, field.name)
        if isinstance(value, tuple):
            numbers += [(f"{field.name}[{x:g}]", y, "s") for x, y in value]
        elif isinstance(value, float):
            unit = "B/s" if field.name.endswith("bytes_per_s") else "s"
            numbers.append((field.name, value, "1" if field.name == "pre_share" else unit))
    return numbers


def calibrate(
    decoder: Decoder, counts: Threading, cpu_kv_dtype: KvDtype | None = None
) -> Calibration:
    """Measure, for a few seconds on a model of a gigabyte. Nothing else should run meanwhile."""
    tokens = ATTENTION_ROWS * max(CONTEXTS)
    pools = Pools(tokens, tokens, _BLOCK_TOKENS, _BLOCK_TOKENS)
    with (
        Pool(counts.cpu_threads) as pool,
        KvCache(geometry_of(decoder, pools, cpu_kv_dtype, num_layers=1), pool) as cache,
    ):
        bench = _Bench(decoder, HostLane(cache, pool, decoder), pools)
        times = _on_lane_thread(bench.times, counts.gpu_threads, pool.cpus)
    return Calibration(MeasuredCosts(times), counts)


def _on_lane_thread(
    measure: Callable[[], MeasuredTimes], gpu_threads: int, workers: tuple[int, ...]
) -> MeasuredTimes:
    """Where the gpu lane would run: torch's threads belong to the thread that asks for them."""
    found: list[MeasuredTimes] = []
    errors: list[BaseException] = []

    def work() -> None:
        pin_gpu_lane(gpu_threads, workers)
        try:
            found.append(measure())
        except Exception as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)

    thread = threading.Thread(target=work, name="calibration")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


class _Bench:
    """Measures with buffers of its own; one layer's KV of each tier."""

    def __init__(self, decoder: Decoder, lane: HostLane, pools: Pools) -> None:
        self._decoder = decoder
        self._lane = lane
        self._host = HostPool(lane.cache, lane.dtype)
        self._clock = WallClock()
        self._pools = pools
        shape = decoder.config.shape
        self._gpu = GpuPool(
            *(1, pools.gpu_tokens, shape.num_kv_heads, shape.head_dim),
            *(_BLOCK_TOKENS, decoder.weights.dtype),
        )
        self._gpu.k.normal_()
        self._gpu.v.normal_()
        self._attention = PagedAttention(decoder.softmax_scale)

    @torch.inference_mode()
    def times(self) -> MeasuredTimes:
        """All of it."""
        decoder, shape = self._decoder, self._decoder.config.shape
        pre, post = self._linear()
        total = tuple((rows, a + b) for (rows, a), (_, b) in zip(pre, post, strict=True))
        gpu_fixed, gpu_curve = self._gpu_attention()
        prefill = self._prefill()
        dispatch, cpu_curve = self._cpu_attention()
        copy_fixed, copy_rate = self._copies()
        step, hand_over = hand_over_seconds(shape.num_layers)
        tensors, tensors_per_row = self._step_tensors()
        return MeasuredTimes(
            num_layers=shape.num_layers,
            kv_bytes_gpu=2 * shape.kv_size * decoder.weights.dtype.itemsize,
            kv_bytes_cpu=self._lane.cache.geometry.block_bytes // _BLOCK_TOKENS,
            linear_s=total,
            pre_share=statistics.fmean(a / t for (_, a), (_, t) in zip(pre, total, strict=True)),
            head_s=self._by_rows(lambda n: lambda: decoder.head(self._hidden(n)).argmax(-1)),
            embed_s=self._by_rows(
                lambda n: lambda: decoder.embed(torch.zeros(n, dtype=torch.int64))
            ),
            gpu_attention_s=gpu_curve,
            gpu_attention_fixed_s=gpu_fixed,
            prefill_fixed_s=prefill[0],
            prefill_s_per_token=prefill[1],
            prefill_s_per_pair=prefill[2],
            cpu_attention_s=cpu_curve,
            cpu_dispatch_s=dispatch + hand_over,
            send_s=self._by_rows(self._send),
            recv_s=self._by_rows(self._recv),
            copy_bytes_per_s=copy_rate,
            copy_fixed_s=copy_fixed,
            schedule_s=tensors + step,
            schedule_s_per_row=tensors_per_row,
        )

    def _seconds(self, call: Callable[[], object]) -> float:
        """Median of a few repeats after one that warms up."""
        call()
        samples = []
        for _ in range(REPEATS):
            begin = self._clock.now_ns()
            call()
            samples.append((self._clock.now_ns() - begin) / NS_PER_S)
        return statistics.median(samples)

    def _by_rows(self, call_of: Callable[[int], Callable[[], object]]) -> Points:
        return tuple((rows, self._seconds(call_of(rows))) for rows in ROWS)

    def _hidden(self, rows: int) -> Tensor:
        width = self._decoder.config.shape.hidden_size
        return torch.ones(rows, width, dtype=self._decoder.weights.dtype)

    def _linear(self) -> tuple[Points, Points]:
        """pre and post, each call on another layer, so that weights come from where they will."""
        decoder, shape = self._decoder, self._decoder.config.shape
        layers = cycle(range(shape.num_layers))

        def pre(rows: int) -> Callable[[], object]:
            hidden, positions = self._hidden(rows), torch.arange(rows)
            return lambda: decoder.pre(next(layers), hidden, positions, positions + 1)

        def post(rows: int) -> Callable[[], object]:
            hidden = self._hidden(rows)
            attended = torch.ones(rows, shape.q_size, dtype=hidden.dtype)
            return lambda: decoder.post(next(layers), hidden, attended)

        return self._by_rows(pre), self._by_rows(post)

    def _gpu_attention(self) -> tuple[float, Points]:
        """What a call costs beside its rows, and one row by its tokens."""

        def call(rows: int, context: int) -> Callable[[], object]:
            q = self._q(rows)
            slots = torch.arange(rows * context).view(rows, context)
            lengths = [context] * rows
            return lambda: self._attention.decode(q, self._gpu.layer(0), slots, lengths)

        return self._attention_curve(lambda rows, context: self._seconds(call(rows, context)))

    def _cpu_attention(self) -> tuple[float, Points]:
        def seconds(rows: int, context: int) -> float:
            blocks = -(-context // _BLOCK_TOKENS)
            tables = [list(range(r * blocks, (r + 1) * blocks)) for r in range(rows)]
            host = HostRows(self._lane, tables, [context] * rows)
            host.send(self._q(rows), *self._kv(rows))
            return self._seconds(lambda: host.attend(0, URGENT).wait())

        return self._attention_curve(seconds)

    @staticmethod
    def _attention_curve(seconds: Callable[[int, int], float]) -> tuple[float, Points]:
        """Jobs of one row and of several tell the fixed part from the rows'."""
        one, many = seconds(1, CONTEXTS[0]), seconds(ATTENTION_ROWS, CONTEXTS[0])
        fixed = max(0.0, (ATTENTION_ROWS * one - many) / (ATTENTION_ROWS - 1))
        curve = [(CONTEXTS[0], max(many - fixed, many / 2) / ATTENTION_ROWS)]
        for context in CONTEXTS[1:]:
            each = max(seconds(ATTENTION_ROWS, context) - fixed, 0.0) / ATTENTION_ROWS
            curve.append((context, each))
        return fixed, tuple(curve)

    def _prefill(self) -> tuple[float, float, float]:
        """Least squares over CHUNKS: per call, per new token, per pair; none below zero."""
        rows, values = [], []
        for new, before in CHUNKS:
            slots, q = torch.arange(before + new), self._q(new)
            rows.append([1.0, float(new), new * before + new * (new + 1) / 2])
            prefill = partial(self._attention.prefill, q, self._gpu.layer(0), slots)
            values.append([self._seconds(prefill)])
        found = torch.linalg.lstsq(torch.tensor(rows).double(), torch.tensor(values).double())
        fixed, per_token, per_pair = (max(0.0, float(x)) for x in found.solution[:, 0])
        return fixed, per_token, per_pair

    def _send(self, rows: int) -> Callable[[], object]:
        host = self._host_rows(rows)
        q, (k, v) = self._q(rows), self._kv(rows)
        return lambda: host.send(q, k, v)

    def _recv(self, rows: int) -> Callable[[], object]:
        return self._host_rows(rows).received

    def _host_rows(self, rows: int) -> HostRows:
        return HostRows(self._lane, [[row] for row in range(rows)], [1] * rows)

    def _copies(self) -> tuple[float, float]:
        """Seconds of a small store, and bytes per second of a large one."""
        small, large = _BLOCK_TOKENS, max(CONTEXTS)
        times = []
        for count in (small, large):
            k, v = self._kv(count)
            blocks = range(-(-count // _BLOCK_TOKENS))
            times.append(self._seconds(partial(self._host.store, 0, blocks, 0, k, v)))
        per_token = self._lane.cache.geometry.block_bytes / _BLOCK_TOKENS
        rate = (large - small) * per_token / max(times[1] - times[0], 1e-9)
        return max(0.0, times[0] - small * per_token / rate), rate

    def _step_tensors(self) -> tuple[float, float]:
        """What a step's token ids, positions and slots take in Python, and each row more."""
        sequences = Sequences(lambda request: random_prompt(request, 2, 0))
        for number in ROWS:
            sequences.admit(Request(number, 0, CONTEXTS[0], 1))
        blocks = range(-(-CONTEXTS[0] // _BLOCK_TOKENS))
        one, many = (
            self._seconds(
                partial(
                    batch_of,
                    SubBatch(gpu_rows=rows, gpu_kv_tokens=1),
                    sequences,
                    lambda _: blocks,
                    _BLOCK_TOKENS,
                )
            )
            for rows in (ROWS[:1], ROWS)
        )
        per_row = max(0.0, many - one) / (len(ROWS) - 1)
        return max(0.0, one - per_row), per_row

    def _q(self, rows: int) -> Tensor:
        shape = self._decoder.config.shape
        return torch.ones(rows, shape.num_heads, shape.head_dim, dtype=self._lane.dtype)

    def _kv(self, rows: int) -> tuple[Tensor, Tensor]:
        shape = self._decoder.config.shape
        k = torch.ones(rows, shape.num_kv_heads, shape.head_dim, dtype=self._lane.dtype)
        return k, k.clone()
