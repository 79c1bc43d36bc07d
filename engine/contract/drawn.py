"""Small random inputs for policies: work at hand, thresholds, costs, traffic, pools of few blocks.

Everything is drawn from the generator that is passed in, so that a seed repeats it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from apexbench.engine.costs import CostModel, FlatCosts
from apexbench.engine.deployment import deploy
from apexbench.engine.plan import PrefillChunk
from apexbench.engine.policies import base as policies
from apexbench.engine.policies.base import Candidates, Targets
from apexbench.engine.sequence import Tier
from apexbench.engine.simulate import SimulationSpec
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import NS_PER_S, Request, Workload

LAYERS = 4  # few, so that cohorts come home within a drawn run
ONE_IN_REAL = 8  # runs with the cost model of a real device, in which little overlaps
MS = NS_PER_S // 1000

_T = TypeVar("_T")


class Row(NamedTuple):
    """All that a policy may read of a sequence; anything else raises AttributeError."""

    id: int
    computed: int
    generated: int = 1
    first_token_ns: int = 0


def shown(row: policies.Row) -> Row:
    """What a policy is shown of a sequence now; the sequence itself goes on changing."""
    return Row(**{name: getattr(row, name) for name in Row._fields})


def pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    """One of `options`, as it is: numpy would turn it into a type of its own."""
    return options[int(rng.integers(len(options)))]


@cache
def t4_costs() -> CostModel:
    """Llama-2-7B on a T4 and its usual host."""
    return deploy().costs()


def costs(rng: np.random.Generator) -> CostModel:
    """Injected constants, some of them zero: nothing may divide by a cost."""
    return FlatCosts(
        num_layers=LAYERS,
        linear_s=pick(rng, (1e-4, 1e-3)),
        gpu_attention_s=pick(rng, (0.0, 1e-4)),
        gpu_attention_s_per_token=pick(rng, (0.0, 1e-7, 1e-5)),
        prefill_attention_s_per_token=pick(rng, (0.0, 1e-8)),
        head_s=1e-4,
        cpu_attention_s_per_row=pick(rng, (0.0, 1e-5, 1e-3)),
        cpu_attention_s_per_token=pick(rng, (0.0, 1e-6, 1e-4)),
        cpu_dispatch_s=pick(rng, (0.0, 1e-5)),
        send_s=1e-5,
        recv_s=1e-5,
        copy_s_per_byte=pick(rng, (0.0, 1e-10, 1e-8)),
        schedule_s=1e-4,
    )


def thresholds(rng: np.random.Generator) -> Thresholds:
    """Legal values, mostly far from the defaults."""
    return Thresholds(
        max_batched_tokens=pick(rng, (16, 40, 2048)),
        max_running_rows=pick(rng, (2, 5, 64)),
        gpu_kv_watermark=pick(rng, (0.0, 0.02, 0.2)),
        swap_in_fraction=pick(rng, (0.6, 0.95, 1.0)),
        linear_rows_threshold=pick(rng, (1, 16, 128)),
        offload_gain_margin=pick(rng, (0.0, 0.3)),
        two_batch_bias=pick(rng, (0.25, 1.0, 4.0)),
        min_cpu_rows=pick(rng, (1, 1, 3)),
        max_deferred_cohorts=pick(rng, (None, 1, 2, LAYERS + 1, 256)),
        max_deferred_rows=pick(rng, (None, 1, 4)),
        join_mode=pick(rng, ("wait", "poll")),
        max_frozen_steps=pick(rng, (1, 3)),
        max_missed_polls=pick(rng, (0, 2)),
    )


def targets(rng: np.random.Generator) -> Targets:
    """None, some that can be kept, some that cannot."""
    return Targets(pick(rng, (None, 1e-3, 0.5)), pick(rng, (None, 1e-4, 5e-3, 1.0)))


def work(rng: np.random.Generator, limits: Thresholds, num_layers: int) -> Candidates:
    """Work at hand that a scheduler with these limits could meet, from nothing to a full house."""
    resident = int(rng.integers(limits.max_running_rows + 1))
    num_prompts = min(int(rng.integers(4)), resident)
    resident -= num_prompts
    deferred = int(rng.integers(min(resident, limits.max_deferred_rows or resident) + 1))
    cohorts = min(deferred, int(rng.integers(1, num_layers + 2)))
    lengths = [int(n) for n in rng.integers(1, 3000, int(rng.integers(resident - deferred + 1)))]
    gpu_rows = resident - deferred - len(lengths)
    return Candidates(
        chunks=tuple(_chunk(rng, index) for index in range(num_prompts)),
        num_gpu_rows=gpu_rows,
        gpu_kv_tokens=gpu_rows * int(rng.integers(1, 2000)),
        cpu_rows=tuple(
            Row(100 + index, length, 1 + length // 2, 0) for index, length in enumerate(lengths)
        ),
        cpu_kv_tokens=sum(lengths) + len(lengths),
        num_cohorts=cohorts,
        deferred_rows=deferred,
        steps_since_entry=int(rng.integers(40)),
    )


def _chunk(rng: np.random.Generator, index: int) -> PrefillChunk:
    context = pick(rng, (0, 512))
    return PrefillChunk(
        1000 + index, int(rng.integers(1, 900)), context, pick(rng, tuple(Tier)), context == 0
    )


def spec(rng: np.random.Generator, policy: str) -> SimulationSpec:
    """A run of at most 16 requests in pools that are often too small for them together."""
    is_real = rng.random() < 1 / ONE_IN_REAL
    belief, truth = costs(rng), costs(rng)
    return SimulationSpec(
        workload=_workload(rng),
        policy=policy,
        belief=t4_costs() if is_real else belief,
        truth=t4_costs() if is_real else truth,
        pools=_pools(rng),
        thresholds=thresholds(rng),
        extrapolates=bool(rng.integers(2)),
        targets=targets(rng),
    )


def with_other_outputs(rng: np.random.Generator, drawn: SimulationSpec) -> SimulationSpec:
    """The same run, except for what nobody but the executor may know."""
    requests = tuple(
        replace(request, output_tokens=int(rng.integers(1, 41)))
        for request in drawn.workload.requests
    )
    return replace(drawn, workload=replace(drawn.workload, requests=requests))


def _workload(rng: np.random.Generator) -> Workload:
    """Ids are not in order of arrival; some arrive together, some are served one at a time."""
    count = int(rng.integers(1, 17))
    arrivals = np.cumsum([pick(rng, (0, 0, 0, 1, 7, 60)) * MS for _ in range(count)])
    longest = pick(rng, (30, 90))
    requests = [
        Request(int(number), int(arrival), int(rng.integers(1, longest + 1)), output)
        for number, arrival, output in zip(
            rng.permutation(count),
            arrivals,
            [int(tokens) for tokens in rng.integers(1, 41, count)],
            strict=True,
        )
    ]
    requests.sort(key=lambda request: (request.arrival_ns, request.id))
    concurrency = pick(rng, (None, None, 1, 3))
    return Workload("drawn", tuple(requests), "", "seeded generator", concurrency=concurrency)


def _pools(rng: np.random.Generator) -> Pools:
    """Anything, and one time in two a host pool several times the GPU's: rows live on the CPU."""
    if rng.random() < 1 / 2:
        return Pools(pick(rng, (24, 48, 100)), 400, pick(rng, (1, 8)), 8)
    return Pools(
        gpu_tokens=pick(rng, (8, 24, 64, 128)),
        cpu_tokens=pick(rng, (0, 16, 48, 112, 400)),
        gpu_block_tokens=pick(rng, (1, 4, 8)),
        cpu_block_tokens=pick(rng, (1, 8, 16)),
    )
