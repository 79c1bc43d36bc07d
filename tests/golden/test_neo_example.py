"""NEO's worked example: 8B, 20 GPU rows of 1,000 tokens, 100 CPU rows of 1,200 tokens."""

from typing import NamedTuple

import pytest

from apexbench.engine.costs import FlatCosts
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies.base import Candidates, PolicyContext
from apexbench.engine.policies.neo import Neo
from apexbench.engine.sequence import Tier
from apexbench.engine.thresholds import Thresholds

LAYERS = 32
COSTS = FlatCosts(
    num_layers=LAYERS,
    linear_s=lambda rows: max(1.11e-3, 8.1e-6 * rows),
    gpu_attention_s_per_token=0.328e-3 / 1000 / LAYERS,
    cpu_attention_s_per_token=0.59e-3 / 4096,
)


class Row(NamedTuple):
    id: int
    computed: int
    generated: int = 1
    first_token_ns: int = 0


def work(chunks: tuple[PrefillChunk, ...]) -> Candidates:
    rows = tuple(Row(i, 1199) for i in range(100))
    return Candidates(chunks, 20, 20 * 1000, rows, 100 * 1200, 0, 0, 0)


def choose(chunks):
    return Neo(PolicyContext(COSTS, Thresholds())).choose(work(chunks))


def test_without_prefill_the_gpu_alone_serves_more() -> None:
    # gpu_only: 20 / (1.11 + 0.205 ms) = 15.2 per ms. Pipelined: B hides 1 row behind 1.11 - 0.8 ms,
    # A 2 behind 1.11 + 0.205 - 0.8 ms, 0.173 ms each: 23 / (2 * 1.11 + 0.205 ms) = 9.5 per ms.
    choice = choose(())
    assert choice.in_layer_a == choice.in_layer_b == ()
    assert choice.freezes_cohorts


@pytest.mark.parametrize("tier", list(Tier))
def test_with_a_prefill_of_1000_tokens_it_pipelines(tier) -> None:
    # T_lin(A) = 8.1 us * 1020 and more with A's rows: 7.46 ms hide 43 rows in B; A still hides 2.
    # 66 requests / (8.28 + 1.11 + 0.205 ms) = 6.9 per ms against 21 / (8.26 + 0.205 ms) = 2.5.
    choice = choose((PrefillChunk(1000, 1000, 0, tier, True),))
    assert len(choice.in_layer_b) == 43
    assert len(choice.in_layer_a) == 2
    assert choice.in_layer_b[0] == 0  # first to B, then to the batch with the larger remainder
    assert set(choice.in_layer_a) | set(choice.in_layer_b) == set(range(45))
