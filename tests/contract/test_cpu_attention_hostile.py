"""Decode attention of every ISA level on hostile data: NaN, infinities, and memory full of garbage.

The rules: a score of NaN or +inf makes its head NaN, one of -inf gives its token no weight, and
nothing but -inf is NaN too. An element of V that is not finite shows in its dimension alone, with
int8 in the whole vector. The log-sum-exp depends on scores only. Tokens that are not visible, slots
beyond the length and unused blocks are never seen.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.cpu_attention_cases import Q_DTYPES, Case, Tensors, tensors
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
from tests.cpu_attention_solutions import Change, check, solved
from tests.cpu_attention_tolerance import tolerance_of

HOSTILE = (np.nan, np.inf, -np.inf)
LENGTHS = (37, 1, 0, 130)
DIM = 3  # the dimension in which scores are driven to infinity
SHAPES = tuple(zip(Q_DTYPES, (16, 8, 64), strict=True))  # q dtype, block size


@dataclass(frozen=True, slots=True)
class OneElement:
    """Some single elements of q, K or V become `value`; two KV heads, three query heads each."""

    name: str
    value: float

    def __call__(self, data: Tensors) -> None:
        """In place."""
        if self.name == "q":
            data.q[0, 2, 5] = self.value
            data.q[3, 5, 63] = self.value
            return
        rows = getattr(data, self.name)
        rows[0][11, 1, 3] = self.value
        rows[3][129, 0, 0] = self.value
        rows[1][0, 1, 63] = self.value


@dataclass(frozen=True, slots=True)
class InfiniteScores:
    """Some tokens of rows 0 and 3 and all of row 1, in KV head 1, get scores of `value`."""

    value: float

    def __call__(self, data: Tensors) -> None:
        """In place."""
        data.q[:, :, DIM] = np.abs(data.q[:, :, DIM])
        data.q[0, 3, DIM] = 1.0  # whatever format q enters products in
        for row, tokens in ((0, slice(11, 13)), (1, slice(0, 1)), (3, slice(64, 130))):
            data.k[row][tokens, 1, DIM] = self.value


def check_shapes(case: Case, level: str, change: Change) -> None:
    """With every q dtype and three kinds of blocks."""
    with computing_with(level):
        for q_dtype, block_size in SHAPES:
            check(replace(case, q_dtype=q_dtype, block_size=block_size), level, change)


@each_level
@each_kv
@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_one_element_that_is_not_finite(level: str, kv: str, value: float, name: str) -> None:
    """It reaches the heads and dimensions it must, and no others."""
    check_shapes(Case(LENGTHS, kv, kv_heads=2, group=3), level, OneElement(name, value))


@each_level
@each_kv
@pytest.mark.parametrize("value", [-np.inf, np.inf])
@pytest.mark.parametrize("has_sinks", [False, True])
def test_infinite_scores(level: str, kv: str, value: float, has_sinks: bool) -> None:
    case = Case(LENGTHS, kv, kv_heads=2, group=3, has_sink_logits=has_sinks)
    check_shapes(case, level, InfiniteScores(value))


@each_level
@pytest.mark.parametrize("kv", ["fp32", "fp16", "bf16"])
def test_tokens_with_scores_of_minus_infinity_change_nothing(level: str, kv: str) -> None:
    """As many of them as one likes, before, between and after the others."""
    for q_dtype in Q_DTYPES:
        case = Case((60,), kv, q_dtype, group=2, block_size=32)
        data = tensors(case)
        data.q[:, :, DIM] = np.maximum(np.abs(data.q[:, :, DIM]), 0.5)
        is_real = np.zeros(60, dtype=bool)
        is_real[[17, 18, 31, 32, 40, 59]] = True
        data.k[0][~is_real, :, DIM] = -np.inf
        k, v = [data.k[0][is_real]], [data.v[0][is_real]]
        alone = Tensors(data.q, k, v, data.tables, data.num_blocks, None)
        with computing_with(level):
            result = run(case, data)
        fewer = replace(case, lengths=(6,))
        solved(fewer, alone, tolerance_of(case.form, level)).check(result.out, result.lse)


@dataclass(frozen=True, slots=True)
class LostTokens:
    """K of these tokens of row 0 is NaN throughout."""

    tokens: tuple[int, ...]

    def __call__(self, data: Tensors) -> None:
        """In place."""
        data.k[0][list(self.tokens)] = np.nan


@each_level
@each_kv
def test_a_piece_of_nothing_but_nan_is_not_forgotten(level: str, kv: str) -> None:
    """Where the kernel looks at few tokens at once: one of the sinks, one of the window."""
    for tokens in ((0,), (99,), (0, 99)):
        for has_sinks in (False, True):
            case = Case((100,), kv, group=2, window=1, sink_tokens=1, has_sink_logits=has_sinks)
            with computing_with(level):
                check(case, level, LostTokens(tokens))


@each_level
@each_kv
@pytest.mark.parametrize("value", HOSTILE)
def test_tokens_outside_the_window_are_not_seen(level: str, kv: str, value: float) -> None:
    """Whatever K and V hold just before and after what is visible."""
    for block_size in (8, 32):
        for window, sinks in ((1, 0), (7, 3), (33, 31)):
            case = Case((100, 61), kv, block_size=block_size, group=2)
            case = replace(case, window=window, sink_tokens=sinks)
            data = tensors(case)
            with computing_with(level):
                clean = run(case, data)
                for row, length in enumerate(case.lengths):
                    for each in (data.k, data.v):
                        each[row][sinks : length - window] = value
                run(case, data).assert_same_bits(clean)


@each_level
@each_kv
def test_slots_beyond_the_length_are_not_seen(level: str, kv: str) -> None:
    """Every byte that no token owns: ones, a NaN, zeros, random; the result keeps its bits."""
    for block_size in (8, 16, 48, 128):
        lengths = (0, 1, block_size - 1, block_size, block_size + 1, 2 * block_size + 3)
        case = Case(lengths, kv, "bf16", block_size=block_size, group=5)
        data = tensors(case)
        with computing_with(level):
            clean = run(case, data, poison=0)
            for poison in (*POISONS, 0xFC):
                run(case, data, poison=poison).assert_same_bits(clean)


@each_level
@each_kv
def test_a_sequence_that_shrinks_forgets_its_end(level: str, kv: str) -> None:
    """Tokens stored beyond context_len, infinite ones, do not count."""
    case = Case((90,), kv, group=2, head_dim=96)
    data = tensors(case)
    for each in (data.k, data.v):
        each[0][70:] = np.inf
    with computing_with(level):
        shorter = replace(case, lengths=(70,))
        cut = replace_rows(data, 70)
        clean = run(shorter, cut)
        with fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as cache:
            attended(cache, shorter, cut).assert_same_bits(clean)


def replace_rows(data: Tensors, length: int) -> Tensors:
    """The same tensors with shorter rows."""
    k, v = ([row[:length] for row in each] for each in (data.k, data.v))
    return Tensors(data.q, k, v, data.tables, data.num_blocks, data.sink_logits)


@each_level
@pytest.mark.parametrize("q_dtype", Q_DTYPES)
def test_results_beyond_the_format_of_out_are_infinite(level: str, q_dtype: str) -> None:
    """Rounded to nearest: fp16 overflows where fp32 and bf16 hold the value."""
    case = Case((1,), "fp32", q_dtype)
    data = tensors(case)
    data.v[0][:] = 65520.0  # stored as fp32, half way to the next fp16
    with computing_with(level):
        geometry = geometry_of(case, data.num_blocks)
        with fill(poisoned(geometry), replace(case, q_dtype="fp32"), data) as cache:
            out = attended(cache, case, data).out
    assert (out == {"fp32": 65520.0, "fp16": np.inf, "bf16": 65536.0}[q_dtype]).all()
