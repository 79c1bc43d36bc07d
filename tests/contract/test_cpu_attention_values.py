"""Decode attention of every ISA level against the float64 reference: shapes, lengths, sizes."""

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apexbench.cpu_kernels import Job, Pool
from tests.cpu_attention_cases import (
    BLOCK_SIZES,
    GROUPS,
    HEAD_DIMS,
    KV_FORMATS,
    Q_DTYPES,
    Case,
    Tensors,
    cases,
    tensors,
)
from tests.cpu_attention_runs import (
    POISONS,
    attended,
    computing_with,
    each_kv,
    each_level,
    fill,
    geometry_of,
    poisoned,
    run,
)
from tests.cpu_attention_solutions import changed_tensors, check, solution

# APEXBENCH_ATTENTION_EXAMPLES=50 runs fifty times as many random cases.
EXAMPLES = int(os.environ.get("APEXBENCH_ATTENTION_EXAMPLES", "1"))

# Deterministic: a failure on one machine is a failure on all.
some = settings(
    max_examples=12 * EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@each_level
@each_kv
def test_any_batch(level: str, kv: str) -> None:
    @some
    @given(case=cases(kv), poison=st.sampled_from(POISONS))
    def holds(case: Case, poison: int) -> None:
        check(case, level, poison=poison)

    with computing_with(level):
        holds()


@each_level
@each_kv
def test_every_head_dim_with_every_block_size(level: str, kv: str) -> None:
    with computing_with(level):
        for i, head_dim in enumerate((*HEAD_DIMS, 16, 176)):
            for j, block_size in enumerate((*BLOCK_SIZES, 112)):
                case = Case((0, 1, 70), kv, Q_DTYPES[(i + j) % 3], head_dim, block_size, kv_heads=2)
                check(replace(case, group=(1, 3)[(i + j) % 2]), level)


@each_level
@each_kv
def test_every_group_with_every_q_dtype(level: str, kv: str) -> None:
    with computing_with(level):
        for group in GROUPS:
            for q_dtype in Q_DTYPES:
                check(Case((19, 64), kv, q_dtype, kv_heads=2, group=group), level)


@each_level
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_lengths_around_the_edges_of_blocks(level: str, block_size: int) -> None:
    edges = {n * block_size + i for n in (0, 1, 2, 3) for i in (-1, 0, 1)} - {-1}
    with computing_with(level):
        for number, kv in enumerate(KV_FORMATS):
            lengths = tuple(np.random.default_rng(number).permutation(sorted(edges)).tolist())
            check(Case(lengths, kv, block_size=block_size, group=2), level)


@each_level
@each_kv
def test_one_long_row_among_short_ones(level: str, kv: str) -> None:
    case = Case((3, 0, 2600, 17, 1, 64), kv, "bf16", head_dim=128, block_size=64, group=2)
    with computing_with(level):
        check(case, level)


@each_level
@pytest.mark.parametrize("appends", [False, True])
def test_a_batch_without_rows(level: str, appends: bool) -> None:
    """Is answered, and nothing is written."""
    case = Case((5,), "int8-fp16", group=2)
    data = tensors(case)
    geometry = geometry_of(case, data.num_blocks)
    q, new = np.empty((0, case.q_heads, 64), np.float32), np.empty((0, 1, 64), np.float32)
    news: dict[str, Any] = {"k_new": new, "v_new": new.copy()} if appends else {}
    with (
        computing_with(level),
        Pool(1, spin_us=0) as pool,
        fill(poisoned(geometry), case, data) as cache,
    ):
        before = cache.memory.copy()
        job = Job(cache).prepare(
            np.zeros((0, 1), np.int32),
            np.zeros(0, np.int32),
            case.q_heads,
            "fp32",
            case.softmax_scale,
            appends=appends,
        )
        job.run_inline(0, q, q.copy(), **news)
        pool.run(job, 0, q, q.copy(), **news)
        np.testing.assert_array_equal(cache.memory, before)


@each_level
@each_kv
def test_windows_and_sink_tokens(level: str, kv: str) -> None:
    """Windows of one token, inside a block, over block edges, beyond; sinks that meet them."""
    base = Case((0, 1, 15, 33, 100, 131), kv, block_size=32, group=3)
    with computing_with(level):
        for window in (1, 2, 16, 17, 33, 64, 99, 100, 4000):
            for sink_tokens in (0, 1, 32, 5000):
                check(replace(base, window=window, sink_tokens=sink_tokens), level)


@each_level
def test_sink_tokens_count_only_with_a_window(level: str) -> None:
    case = Case((50,), sink_tokens=3)
    with computing_with(level):
        data = tensors(case)
        run(case, data).assert_same_bits(run(replace(case, sink_tokens=0), data))


SINK_LOGITS = (-np.inf, -80.0, -1.0, 0.0, 9.0, 80.0)


def give_sinks(data: Tensors) -> None:
    """One of each kind."""
    data.sink_logits = np.array(SINK_LOGITS)


@each_level
@each_kv
def test_sink_logits_of_any_size(level: str, kv: str) -> None:
    """Including those far above all scores, and -inf, which is no sink at all."""
    case = Case((0, 1, 40), kv, group=len(SINK_LOGITS))
    with computing_with(level):
        check(case, level, give_sinks)
        data = tensors(case)
        without = run(case, data)
        data.sink_logits = np.full(len(SINK_LOGITS), -np.inf)
        run(case, data).assert_same_bits(without)


# (q, K, V, softmax_scale): standard deviations, and what scores are multiplied with.
MAGNITUDES = {
    "scores of 1e4": (100.0, 100.0, 1.0, 0.125),
    "one score far above the others": (1.0, 1e3, 1.0, 0.125),
    "scale 0": (1.0, 1.0, 1.0, 0.0),
    "tiny scale": (1.0, 1.0, 1.0, 1e-30),
    "large scale": (1.0, 1.0, 1.0, 100.0),
    "negative scale": (1.0, 1.0, 1.0, -0.3),
    "large V": (1.0, 1.0, 1e4, 0.125),
    "V around the largest fp8": (1.0, 1.0, 300.0, 0.125),
    "small V, denormal in fp16 and fp8": (1.0, 1.0, 1e-7, 0.125),
    "small K, denormal in fp16 and fp8": (1e4, 1e-6, 1.0, 0.125),
    "q of zeros": (0.0, 1.0, 1.0, 0.125),
    "K of zeros": (1.0, 0.0, 1.0, 0.125),
    "V of zeros": (1.0, 1.0, 0.0, 0.125),
}
BEYOND_FP16 = {
    "V of 1e30": (1.0, 1.0, 1e30, 0.125),
    "V of 1e-36": (1.0, 1.0, 1e-36, 0.125),
    "denormal V": (1.0, 1.0, 1e-40, 0.125),
    "q of 1e-36": (1e-36, 1.0, 1.0, 0.125),
    "denormal q": (1e-41, 1.0, 1.0, 0.125),
    "denormal q, large K": (1e-39, 1e37, 1.0, 0.125),
    "denormal K, large q": (1e30, 1e-40, 1.0, 0.125),
    "large q, tiny scale": (1e34, 1e-2, 1.0, 1e-33),
}


@each_level
@each_kv
@pytest.mark.parametrize("name", [*MAGNITUDES, *BEYOND_FP16])
def test_magnitudes(level: str, kv: str, name: str) -> None:
    q_size, k_size, v_size, scale = (MAGNITUDES | BEYOND_FP16)[name]
    sizes = {"q_size": q_size, "k_size": k_size, "v_size": v_size, "softmax_scale": scale}
    case = replace(Case((37, 130), kv, group=3), **sizes)  # type: ignore[arg-type]
    with computing_with(level):
        check(replace(case, block_size=8), level)
        check(replace(case, block_size=32, q_dtype="bf16"), level)
        if name in MAGNITUDES:
            check(replace(case, block_size=64, q_dtype="fp16"), level)


@dataclass(frozen=True, slots=True)
class Staircase:
    """Scores rise to `step` * 64 and fall again, exactly: each token in turn is the largest."""

    step: float

    def __call__(self, data: Tensors) -> None:
        """For one row, one head."""
        k = data.k[0][:, 0]
        up = np.arange(len(k) // 2) // 16 * 16.0  # up to 64 by 16, exact in fp8
        data.q[:] = 0.0
        data.q[0, 0, 0] = self.step
        k[:] = 0.0
        k[:, 0] = np.concatenate([up, up[::-1]])
        k[:, 5] = 127.0  # int8: makes the scale 1; q does not see it


@each_level
@each_kv
def test_rising_scores_overflow_nothing(level: str, kv: str) -> None:
    """What was summed before vanishes at each step, and all later tokens count for nothing."""
    with computing_with(level):
        for step in (128.0, -128.0, 1.0):
            check(Case((160,), kv, softmax_scale=1.0), level, Staircase(step))


@each_level
@each_kv
def test_append_stores_before_it_attends(level: str, kv: str) -> None:
    """The same bits as a store beforehand, in the result and in the cache."""
    for q_dtype, block_size in zip(Q_DTYPES, (8, 16, 64), strict=True):
        case = Case((1, block_size, block_size + 1, 100), kv, q_dtype, 80, block_size, 2, 2)
        data = changed_tensors(case)
        geometry = geometry_of(case, data.num_blocks)
        shorter = tuple(length - 1 for length in case.lengths)
        with (
            computing_with(level),
            fill(poisoned(geometry), case, data) as stored,
            fill(poisoned(geometry), case, data, lengths=shorter) as appended,
        ):
            now = attended(appended, case, data, appends=True)
            now.assert_same_bits(attended(stored, case, data))
            solution(case, level).check(now.out, now.lse)
            np.testing.assert_array_equal(appended.memory, stored.memory)


@each_level
@each_kv
def test_a_shared_prefix_is_read_by_all_rows(level: str, kv: str) -> None:
    case = Case((100, 96, 97, 130), kv, block_size=32, group=2, shares_prefix=True)
    tables = changed_tensors(case).tables
    assert len(np.unique(tables)) < tables.size
    with computing_with(level):
        check(case, level)
