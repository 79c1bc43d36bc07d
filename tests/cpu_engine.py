"""Runs the real model under a policy, on both tiers, and collects what it said."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from apexbench.engine.clock import WallClock
from apexbench.engine.contract.checked import CheckedScheduler
from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.cpu.opening import CpuExecutor, Threading, open_cpu
from apexbench.engine.executors.cpu.sequences import Prompt, SequenceState, random_prompt
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.running import RunSpec, run
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RunLog, Workload

# Enough for everything at once: nothing is offloaded, swapped or preempted.
ROOMY = Pools(8192, 0, 16, 64)

PromptMaker = Callable[[Request], Prompt]


@dataclass
class Spoken:
    """What a run produced: token ids and logits [tokens, vocab] by request."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    logits: dict[int, list[Tensor]] = field(default_factory=dict)
    log: RunLog | None = None
    executor: CpuExecutor | None = None


def belief(num_layers: int) -> FlatCosts:
    """Costs under which every policy has reasons to use both tiers."""
    return FlatCosts(
        num_layers=num_layers,
        linear_s=1e-3,
        gpu_attention_s_per_token=1e-6,
        cpu_attention_s_per_token=1e-6,
    )


def speak(
    decoder: Decoder,
    requests: Sequence[Request],
    policy: str = "gpu-only",
    pools: Pools = ROOMY,
    *,
    prompt_of: PromptMaker | None = None,
    cpu_kv_dtype: Any = None,
    keeps_logits: bool = False,
    scheduler_type: Callable[..., Any] = CheckedScheduler,
    on_open: Callable[[CpuExecutor], None] = lambda _: None,
    **thresholds: Any,
) -> Spoken:
    """Serve `requests` by `policy`; the scheduler checks its own laws at every step."""
    spoken = Spoken({request.id: [] for request in requests})
    vocab = decoder.config.shape.vocab_size

    def on_logits(states: Sequence[SequenceState], logits: Tensor) -> None:
        if keeps_logits:
            for state, row in zip(states, logits, strict=True):
                spoken.logits.setdefault(state.id, []).append(row.clone())

    spec = RunSpec(
        workload=Workload("test", tuple(requests), "", ""),
        policy=policy,
        belief=belief(decoder.config.shape.num_layers),
        pools=pools,
        thresholds=replace(Thresholds(), **thresholds),
    )
    clock = WallClock()
    with open_cpu(
        decoder,
        pools,
        prompt_of or (lambda request: random_prompt(request, vocab, 0)),
        clock,
        threading=Threading(gpu_threads=1, cpu_threads=1),
        cpu_kv_dtype=cpu_kv_dtype,
        on_logits=on_logits,
        on_token=lambda sequence, token: spoken.tokens[sequence].append(token.token),
    ) as executor:
        on_open(executor)
        num_layers = decoder.config.shape.num_layers
        spoken.log = run(spec, executor, clock, num_layers, scheduler_type=scheduler_type)
    spoken.executor = executor
    return spoken


def margin(logits: Tensor) -> float:
    """By how much the best logit leads."""
    best = torch.topk(logits, 2).values
    return float(best[0] - best[1])
