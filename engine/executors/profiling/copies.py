"""Copies within host memory and conversions in and out of the KV cache, by one thread."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from apexbench.cpu_kernels.bench.machine import last_level_cache_bytes
from apexbench.cpu_kernels.bench.samples import summarise
from apexbench.cpu_kernels.bench.scope import HEAD_DIM
from apexbench.cpu_kernels.cache import KvCache
from apexbench.cpu_kernels.geometry import KvDtype, KvGeometry
from apexbench.engine.clock import WallClock
from apexbench.engine.executors.profiling.measurements import Copy, Timing
from apexbench.engine.executors.profiling.pace import Pace
from apexbench.records import NS_PER_S

# From q, k and v of a few rows to the KV of a long prompt.
SIZES = (64 << 10, 1 << 20, 16 << 20)
SMALLEST_ARENA_BYTES = 256 << 20
# Of one arena; source and target together are then many times a cache.
ARENA_CACHES = 4
# Of each size no more than this in all, so that the large ones do not take all the time.
BYTES_PER_SIZE = 128 << 20
KV_HEADS, BLOCK_TOKENS = 8, 64
TOKENS_PER_CALL = (64, 1024)
FP16_BYTES = 2
_BACK_AND_FORTH = ("out", "back")


def measure_copies(num_samples: int, pace: Pace) -> Iterator[Copy]:
    """memcpy from one arena to another and back, by size."""
    num_bytes = max(SMALLEST_ARENA_BYTES, ARENA_CACHES * last_level_cache_bytes())
    one, other = np.ones(num_bytes, np.uint8), np.ones(num_bytes, np.uint8)
    for size in SIZES:
        pace.step(f"copies of {size >> 10} KiB")
        for direction, (source, target) in zip(
            _BACK_AND_FORTH, ((one, other), (other, one)), strict=True
        ):
            timing = _timed(_copy_calls(source, target, size, direction), num_samples, size)
            yield Copy("memcpy", direction, "bytes", size, timing)


def measure_conversions(
    dtypes: tuple[KvDtype, ...], num_samples: int, pace: Pace
) -> Iterator[Copy]:
    """Tokens of fp16 into the cache and out of it, by dtype of the cache."""
    for dtype in dtypes:
        pace.step(f"storing and loading {dtype} KV")
        num_blocks = SMALLEST_ARENA_BYTES // (BLOCK_TOKENS * KV_HEADS * HEAD_DIM * 2 * FP16_BYTES)
        with KvCache(KvGeometry(1, num_blocks, KV_HEADS, HEAD_DIM, BLOCK_TOKENS, dtype)) as cache:
            for tokens in TOKENS_PER_CALL:
                num_bytes = tokens * KV_HEADS * HEAD_DIM * 2 * FP16_BYTES
                for kind, calls in (("store", _store_calls), ("load", _load_calls)):
                    timing = _timed(calls(cache, tokens), num_samples, num_bytes)
                    yield Copy(kind, "", dtype, num_bytes, timing)


def _copy_calls(
    source: NDArray[np.uint8], target: NDArray[np.uint8], size: int, direction: str
) -> Callable[[int], None]:
    """The way back begins elsewhere: what was just written is still in a cache."""
    places = len(source) // size
    first = places // len(_BACK_AND_FORTH) * _BACK_AND_FORTH.index(direction)

    def call(index: int) -> None:
        begin = (first + index) % places * size
        np.copyto(target[begin : begin + size], source[begin : begin + size])

    return call


def _store_calls(cache: KvCache, tokens: int) -> Callable[[int], None]:
    blocks, places = _places(cache, tokens)
    k, v = np.ones((2, places * tokens, KV_HEADS, HEAD_DIM), np.float16)

    def call(index: int) -> None:
        place = index % places
        rows = slice(place * tokens, (place + 1) * tokens)
        cache.store(0, range(place * blocks, (place + 1) * blocks), 0, k[rows], v[rows])

    return call


def _load_calls(cache: KvCache, tokens: int) -> Callable[[int], None]:
    blocks, places = _places(cache, tokens)

    def call(index: int) -> None:
        place = index % places
        cache.load(0, range(place * blocks, (place + 1) * blocks), 0, tokens)

    return call


def _places(cache: KvCache, tokens: int) -> tuple[int, int]:
    """Blocks of a call, and how many calls the cache has room for."""
    blocks = cache.geometry.blocks_of(tokens)
    return blocks, cache.geometry.num_blocks // blocks


def _timed(call: Callable[[int], None], num_samples: int, num_bytes: int) -> Timing:
    """Calls on one place after the other; the first tenth only warms up."""
    count = max(10, min(num_samples, BYTES_PER_SIZE // num_bytes))
    warm_up, clock, seconds = count // 10, WallClock(), []
    for index in range(warm_up + count):
        began = clock.now_ns()
        call(index)
        if index >= warm_up:
            seconds.append((clock.now_ns() - began) / NS_PER_S)
    found = summarise(seconds)
    return Timing(found.median, found.spread, found.n)
