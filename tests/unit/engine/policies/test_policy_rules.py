"""The published rules against numbers worked out by hand."""

from dataclasses import replace

import pytest

from apexbench.engine.contract.drawn import Row
from apexbench.engine.costs import FlatCosts
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.apex import Apex
from apexbench.engine.policies.base import GPU_ONLY, Candidates, PolicyContext
from apexbench.engine.policies.deferral import Deferral
from apexbench.engine.policies.neo import Neo
from apexbench.engine.policies.sizing import RowCosts, deferred_capacity, two_batch_rows
from apexbench.engine.policies.static import StaticDeferred, StaticInLayer, StaticTwoBatch
from apexbench.engine.sequence import Tier
from apexbench.engine.thresholds import Thresholds

LAYERS = 32
# T_lin 1.7 ms up to 100 rows and 5 ms beyond, T_gatt 0.23 ms, T_pref 1 ms for 500 tokens.
BASE = FlatCosts(
    num_layers=LAYERS,
    linear_s=lambda rows: 1.7e-3 if rows <= 100 else 5e-3,
    gpu_attention_s=0.23e-3,
    prefill_attention_s_per_token=1e-3 / (500 * 501 / 2),
)
PROMPT = PrefillChunk(900, 500, 0, Tier.GPU, True)


def work(
    *, rows: int = 40, chunks=(), gpu_rows: int = 7, cohorts=0, deferred=0, since=99
) -> Candidates:
    free = tuple(Row(i, 419, 1, 0) for i in range(rows))
    return Candidates(chunks, gpu_rows, gpu_rows * 420, free, rows * 420, cohorts, deferred, since)


def costs(cpu_row_s: float) -> FlatCosts:
    return replace(BASE, cpu_attention_s_per_row=cpu_row_s)


def context(cpu_row_s: float = 0.2e-3, **thresholds) -> PolicyContext:
    return PolicyContext(costs(cpu_row_s), Thresholds(**thresholds))


# -- apex ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpu_row_s", "chunks", "bias", "expected"),
    [
        # 7 / 0.23 ms * t < 2 * 1.7/0.23 + 3 + 0.23/1.7 = 17.918: t < 0.5887 ms
        (0.588e-3, (), 1.0, True),
        (0.590e-3, (), 1.0, False),
        (0.590e-3, (), 1.01, True),
        (0.295e-3, (), 0.5, False),
        # T_ov = 5 + 1 + 1.7 + 0.23 = 7.93 ms: 7.93 * 6.23 / (0.23 * 1.7) = 126.35: t < 4.1515
        (4.15e-3, (PROMPT,), 1.0, True),
        (4.16e-3, (PROMPT,), 1.0, False),
    ],
)
def test_apex_inequality(cpu_row_s, chunks, bias, expected) -> None:
    policy = Apex(context(cpu_row_s, two_batch_bias=bias))
    at_hand = work(chunks=chunks)
    assert policy.prefers_two_batch(at_hand) is expected
    choice = policy.choose(at_hand)
    assert bool(choice.in_layer_b) is expected
    assert bool(choice.enter) is not expected


def test_apex_without_cpu_rows_or_with_too_few_is_gpu_only() -> None:
    assert Apex(context()).choose(work(rows=0)) == GPU_ONLY
    assert Apex(context(min_cpu_rows=9)).choose(work(rows=8)) == GPU_ONLY
    assert Apex(context(min_cpu_rows=9)).choose(work(rows=8, cohorts=1, deferred=1)) != GPU_ONLY


def test_apex_keeps_to_the_gpu_below_the_gain_margin() -> None:
    # deferred with 1 row of 33 steps beside 7 GPU rows gains 1/33/7 = 0.4 %
    at_hand = work(rows=1)
    assert Apex(context(2e-3, offload_gain_margin=0.004)).choose(at_hand).enter == (0,)
    assert Apex(context(2e-3, offload_gain_margin=0.005)).choose(at_hand) == GPU_ONLY


def test_apex_promotes_its_cohort_when_the_gpu_has_no_work() -> None:
    choice = Apex(context()).choose(work(rows=2, gpu_rows=0, cohorts=1, deferred=3))
    assert choice.promotes_cohorts
    assert choice.in_layer_a


# -- deferred --------------------------------------------------------------------------------------


def test_deferred_capacity_fills_the_step() -> None:
    # n * t * L/(L+1) <= L * (1.7 + 0.23) ms with t = 0.2 ms: n = 33 * 1.93 / 0.2 = 318.45
    assert deferred_capacity(costs(0.2e-3), work()) == 318


@pytest.mark.parametrize(("cohorts", "spacing"), [(1, 33), (8, 4), (33, 1), (100, 1)])
def test_cohorts_enter_evenly_spaced(cohorts, spacing) -> None:
    deferral = Deferral(context(max_deferred_cohorts=cohorts), default_cohorts=3)
    assert deferral.entering(work(since=spacing - 1)) == ()
    assert deferral.entering(work(since=spacing)) != ()


@pytest.mark.parametrize(("cohorts", "share"), [(1, 318), (8, 40), (33, 10)])
def test_a_cohort_takes_its_share_of_what_the_cpu_can_serve(cohorts, share) -> None:
    deferral = Deferral(context(max_deferred_cohorts=cohorts), default_cohorts=3)
    assert deferral.entering(work(rows=400)) == tuple(range(share))


def test_deferral_limits() -> None:
    deferral = Deferral(context(max_deferred_cohorts=2, max_deferred_rows=5), default_cohorts=3)
    assert len(deferral.entering(work())) == 3
    assert len(deferral.entering(work(cohorts=1, deferred=3))) == 2
    assert deferral.entering(work(cohorts=1, deferred=5)) == ()
    assert deferral.entering(work(cohorts=2, deferred=2)) == ()


def test_static_deferred_promotes_without_gpu_work() -> None:
    policy = StaticDeferred(context())
    assert policy.choose(work(gpu_rows=0, cohorts=1, deferred=3)).promotes_cohorts
    assert not policy.choose(work(cohorts=1, deferred=3)).promotes_cohorts


# -- two batches and in layer ----------------------------------------------------------------------


def test_two_batch_fills_what_the_layer_hides() -> None:
    # GPU layer 1.7 + 0.23 + 1.7 = 3.63 ms, 0.2 ms a row: 18 rows; each batch 1.93 ms: 9 rows
    rows_a, rows_b = two_batch_rows(RowCosts(costs(0.2e-3)), work(), 256)
    assert (len(rows_a), len(rows_b)) == (9, 9)
    assert sorted(rows_a + rows_b) == list(range(18))


def test_two_batch_has_one_row_even_when_the_cpu_is_too_slow() -> None:
    assert two_batch_rows(RowCosts(costs(0.1)), work(), 256) == ((), (0,))
    assert StaticTwoBatch(context(0.1, min_cpu_rows=41)).choose(work()) == GPU_ONLY


def test_in_layer_rows_stop_when_the_rate_would_fall() -> None:
    # 1 row (0.2 ms) hides behind T_gatt. Beyond, a layer takes 1.7 ms + 0.2 ms * n for 7 + n rows:
    # the rate still rises with every row, for 1.7/0.2 > 7.
    choice = StaticInLayer(context(0.2e-3)).choose(work())
    assert choice.in_layer_a == tuple(range(40))
    # 0.3 ms: 7 / 1.93 < 8 / 2.0 > 9 / 2.3 rows per ms
    assert StaticInLayer(context(0.3e-3)).choose(work()).in_layer_a == (0,)
    # 1 ms: 7 / 1.93 > 8 / 2.7
    assert StaticInLayer(context(1e-3)).choose(work()).in_layer_a == ()


# -- neo -------------------------------------------------------------------------------------------


def neo(rows: list[int], chunks=(), gpu_rows=2, **thresholds):
    belief = replace(BASE, cpu_attention_s_per_token=1e-6, linear_s=2e-3)
    free = tuple(Row(i, length, 1, 0) for i, length in enumerate(rows))
    kv_tokens = sum(rows) + len(rows)
    at_hand = Candidates(chunks, gpu_rows, 100, free, kv_tokens, 0, 0, 0)
    return Neo(PolicyContext(belief, Thresholds(**thresholds))).choose(at_hand)


def test_neo_goes_on_with_shorter_rows_after_one_that_does_not_fit() -> None:
    # B hides 2 - 0.8 = 1.2 ms, A 2 + 0.23 - 0.8 = 1.43 ms, 1 us per token.
    choice = neo([999, 1299, 1300, 1299, 99, 199])
    assert choice.in_layer_b == (0, 4)  # 1000, then 1 to A, 2 and 3 barred, 100 to B
    assert choice.in_layer_a == (1,)  # and 5 fits nowhere: 0.1 ms are left in each


def test_neo_needs_a_gain_in_requests_per_gpu_time() -> None:
    assert neo([999, 999], gpu_rows=1).in_layer_b  # 3 / 4.23 ms against 1 / 2.23 ms
    assert neo([999, 999], gpu_rows=3) == GPU_ONLY  # 5 / 4.23 ms against 3 / 2.23 ms


def chunk(sequence: int, tokens: int, tier: Tier) -> PrefillChunk:
    return PrefillChunk(sequence, tokens, 0, tier, True)


def test_neo_drops_cpu_bound_prompts_from_the_tail_while_enough_rows_remain() -> None:
    chunks = (chunk(50, 100, Tier.GPU), *(chunk(51 + i, 60, Tier.CPU) for i in range(3)))
    assert neo([], chunks, gpu_rows=8).drops == (53, 52)  # 288 rows, 228, 168; 108 < 128
    assert neo([], chunks, gpu_rows=8, linear_rows_threshold=16).drops == (53, 52, 51)
    assert neo([], chunks, gpu_rows=8, linear_rows_threshold=512).drops == ()
