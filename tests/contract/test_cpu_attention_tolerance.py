"""The float64 reference and the table of tolerances themselves: right, and tight enough."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.cpu_attention_cases import Case, expected, filled, tensors
from tests.cpu_attention_numbers import (
    BF16,
    FORMATS,
    FP8,
    FP16,
    Floats,
    decoded,
    encoded,
    rounded,
)
from tests.cpu_attention_reference import Rules, attend, kv_format, softmax, tile_map
from tests.cpu_attention_runs import each_kv
from tests.cpu_attention_tolerance import Expectation, expectation, tolerance_of


def plain_attention(q, k, v, scale, visible, sink):
    """One query head by the formula, in Python floats: q [dim], k and v [tokens][dim]."""
    scores = [scale * math.fsum(a * b for a, b in zip(q, k[t], strict=True)) for t in visible]
    terms = [math.exp(score) for score in scores]
    total = math.fsum([*terms, math.exp(sink)])
    out = [
        math.fsum(term * v[t][d] for term, t in zip(terms, visible, strict=True)) / total
        for d in range(len(q))
    ]
    return out, math.log(total)


def test_the_reference_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((6, 8)), *rng.standard_normal((2, 11, 3, 8))
    sinks = rng.standard_normal(6)
    rules = Rules(0.5, window=4, sink_tokens=2, sink_logits=sinks)
    result = attend(q, k, v, rules)
    for head in range(6):
        out, lse = plain_attention(
            q[head],
            k[:, head // 2],
            v[:, head // 2],
            0.5,
            [0, 1, 7, 8, 9, 10],
            sinks[head],
        )
        np.testing.assert_allclose(result.out[head], out, rtol=1e-12)
        np.testing.assert_allclose(result.lse[head], lse, rtol=1e-12)


@pytest.mark.parametrize(
    ("scores", "lse"),
    [
        ([0.0, -math.inf], 0.0),
        ([1e4, 1e4], 1e4 + math.log(2)),
        ([-1e4, -math.inf], -1e4),
        ([0.0, math.nan], math.nan),
        ([0.0, math.inf], math.nan),
        ([-math.inf, -math.inf], math.nan),
        ([], -math.inf),
    ],
)
def test_the_rules_of_infinite_scores(scores: list[float], lse: float) -> None:
    weights, found = softmax(np.array([scores]), None)
    np.testing.assert_allclose(found, [lse])
    assert np.isnan(weights).all() == math.isnan(lse) or not scores
    if math.isfinite(lse):
        np.testing.assert_allclose(weights.sum(), 1.0)
        assert (weights[np.array([scores]) == -math.inf] == 0).all()


def test_formats_are_those_of_numpy_and_of_their_tables() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    for form in (FP16, BF16):
        values = decoded(every, form)
        is_number = ~np.isnan(values)
        np.testing.assert_array_equal(encoded(values, form)[is_number], every[is_number])
        np.testing.assert_array_equal(rounded(values, form), values)
    numbers = np.random.default_rng(0).standard_normal(20000) * 10.0 ** np.arange(-10, 10).repeat(
        1000
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(
            rounded(numbers.astype(np.float32), FP16),
            numbers.astype(np.float32).astype(np.float16).astype(np.float64),
        )
    known = {0.0: 0x00, 2.0**-9: 0x01, 2.0**-6: 0x08, 1.0: 0x38, -1.75: 0xBE, 448.0: 0x7E}
    np.testing.assert_array_equal(encoded(np.array(list(known)), FP8), list(known.values()))
    odd = rounded(np.array([1e9, -np.inf, 464.0, 17.0, 19.0, 2.0**-10, 1.5 * 2.0**-9]), FP8)
    np.testing.assert_array_equal(odd, [448, -448, 448, 16, 20, 0, 2.0**-8])


@each_kv
def test_a_tile_has_a_place_for_everything(kv: str) -> None:
    form = kv_format(kv)
    for block_size in (8, 16, 48, 128):
        for head_dim in (16, 80, 256):
            tile = tile_map(form, block_size, head_dim)
            width = form.element_bytes
            places = np.concatenate([tile.k.reshape(-1), tile.v.reshape(-1)])
            assert len(np.unique(places)) == places.size == 2 * block_size * head_dim
            assert (places % width == 0).all()
            assert places.max() + width <= tile.num_bytes
            assert tile.num_bytes % 64 == 0
            if form.scale is not None:
                assert tile.v_scales.max() < places.min()


def changed(case: Case, change: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> bool:
    """Whether the tolerance notices that K and V [tokens, heads, dim] of one row were changed."""
    data = tensors(case)
    cache = filled(case, data)
    level = "avx512x" if case.kv == "bf16" else "any"
    exact = expectation(
        expected(case, data, cache), tolerance_of(case.form, level), FORMATS[case.q_dtype]
    )
    k, v = change(*cache.gather(0, data.tables[0], case.lengths[0]))
    wrong = attend(data.q[0], k, v, Rules(case.softmax_scale))
    return not accepts(exact, wrong.out, wrong.lse)


def accepts(exact: Expectation, out: Floats, lse: Floats) -> bool:
    """Whether a result is within the tolerance."""
    try:
        exact.check(out[None], lse[None])
    except AssertionError:
        return False
    return True


@each_kv
@pytest.mark.parametrize("q_dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("length", [17, 300])
def test_the_tolerance_notices_a_lost_token(kv: str, q_dtype: str, length: int) -> None:
    """Whichever it is, of few or of some hundred."""
    case = Case((length,), kv, q_dtype, head_dim=128, group=4, softmax_scale=0.088)
    assert not changed(case, lambda k, v: (k, v))
    for token in range(0, length, 1 + length // 12):
        lost = partial(np.delete, obj=token, axis=0)
        assert changed(case, lambda k, v: (lost(k), lost(v)))  # noqa: B023


@each_kv
def test_the_tolerance_notices_other_mistakes(kv: str) -> None:
    """One token's V or K off by a percent; two neighbours' V exchanged; the last token twice."""
    case = Case((100,), kv, "bf16", head_dim=128, group=4, softmax_scale=0.088)
    case = replace(case, v_size=3.0)

    def exchanged(k, v):
        return k, v[[*range(50), 51, 50, *range(52, 100)]]

    def twice(k, v):
        return np.concatenate([k, k[-1:]]), np.concatenate([v, v[-1:]])

    def larger(k, v):
        v = v.copy()
        v[40] *= 2
        return k, v

    def all_larger(k, v):
        return k, v * 1.01

    def sharper(k, v):
        return k * 1.01, v

    for mistake in (exchanged, twice, larger, all_larger, sharper):
        assert changed(case, mistake), mistake.__name__


def test_the_tolerance_refuses_what_is_not_a_number() -> None:
    case = Case((5,))
    data = tensors(case)
    rows = expected(case, data, filled(case, data))
    exact = expectation(rows, tolerance_of(case.form, "any"), FORMATS["fp32"])
    assert accepts(exact, rows[0].out, rows[0].lse)
    for value in (np.nan, np.inf):
        out = rows[0].out.copy()
        out[0, 3] = value
        assert not accepts(exact, out, rows[0].lse)
        assert not accepts(exact, rows[0].out, np.full_like(rows[0].lse, value))
