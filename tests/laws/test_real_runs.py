"""Real tokens under random arrivals, cancellations, tiny pools and broken parts: nothing is lost,
nothing is different from a run with room for everything.
"""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.contract import drawn
from apexbench.engine.contract.checked import CheckedScheduler
from apexbench.engine.executors.cpu.opening import CpuExecutor
from apexbench.engine.executors.cpu.sequences import Prompt
from apexbench.engine.model.config import config_of
from apexbench.engine.model.decoder import Decoder
from apexbench.engine.model.dummy import dummy_weights
from apexbench.engine.model.sampling_params import SamplingParams
from apexbench.engine.model.stopping import Completion
from apexbench.engine.models import ModelShape
from apexbench.engine.tiers import Pools
from apexbench.records import Request, RequestStatus
from tests.cpu_engine import Spoken, margin, speak
from tests.fickle_policy import FICKLE

POLICIES = ("gpu-only", "neo", "apex", "planner", "fastdecode", "static:deferred", FICKLE)
TIE = 1e-4  # logits nearer than this may swap places when batches differ
VOCAB = 300


@cache
def decoder() -> Decoder:
    shape = ModelShape("small", drawn.LAYERS, 96, 6, 2, 16, 160, VOCAB, 512, False, "a test")
    config = config_of(shape)
    return Decoder(config, dummy_weights(config, "fp32", 0))


def pools(rng: np.random.Generator) -> Pools:
    """Rooms for one to a few sequences."""
    return Pools(
        gpu_tokens=drawn.pick(rng, (64, 96, 128, 192)),
        cpu_tokens=drawn.pick(rng, (0, 64, 160, 512)),
        gpu_block_tokens=drawn.pick(rng, (1, 4, 16)),
        cpu_block_tokens=drawn.pick(rng, (8, 16, 32)),
    )


def check_against_a_roomy_run(tight: Spoken, requests: tuple[Request, ...]) -> None:
    roomy = speak(decoder(), requests, keeps_logits=True)
    assert tight.log is not None
    for record in tight.log.requests:
        ours, expected = tight.tokens[record.id], roomy.tokens[record.id]
        if record.status is RequestStatus.COMPLETED:
            assert len(ours) == len(expected)
        for place, (token, other) in enumerate(zip(ours, expected, strict=False)):
            if token != other:
                assert margin(roomy.logits[record.id][place]) < TIE
                break


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), policy=st.sampled_from(POLICIES), cancels=st.booleans())
def test_tokens_do_not_depend_on_where_kv_lives(seed: int, policy: str, cancels: bool) -> None:
    rng = np.random.default_rng(seed)
    spec = drawn.spec(rng, "gpu-only")
    requests = tuple(replace(r, arrival_ns=r.arrival_ns // 8) for r in spec.workload.requests)
    tight = speak(
        decoder(),
        requests,
        policy,
        pools(rng),
        scheduler_type=partial(CheckedScheduler, cancels=rng if cancels else None),
        max_batched_tokens=drawn.pick(rng, (8, 33, 2048)),
        max_running_rows=drawn.pick(rng, (2, 5, 64)),
        join_mode=drawn.pick(rng, ("wait", "poll")),
    )
    check_against_a_roomy_run(tight, requests)
    assert tight.log is not None
    allowed = {RequestStatus.COMPLETED, RequestStatus.REJECTED, RequestStatus.FAILED}
    for record in tight.log.requests:
        assert record.status in allowed | ({RequestStatus.CANCELLED} if cancels else set())
        if record.status in (RequestStatus.REJECTED, RequestStatus.FAILED):
            assert record.reason is not None
            assert "KV pool" in record.reason  # no pool could ever hold it


def drawing_prompt(request: Request) -> Prompt:
    """Every request samples in a way of its own."""
    rng = np.random.default_rng([3, request.id])
    params = SamplingParams(
        max_tokens=request.output_tokens,
        ignore_eos=True,
        temperature=(0.0, 0.7, 1.3)[request.id % 3],
        top_k=(0, 20)[request.id % 2],
        top_p=(1.0, 0.9)[request.id // 2 % 2],
        repetition_penalty=(1.0, 1.2)[request.id // 4 % 2],
        seed=request.id // 3,
    )
    ids = tuple(rng.integers(VOCAB, size=request.prompt_tokens).tolist())
    return Prompt(ids, params, Completion(params, (), None))


@pytest.mark.parametrize("policy", ["apex", "static:deferred", FICKLE])
def test_sampling_depends_on_the_request_alone(policy: str) -> None:
    rng = np.random.default_rng(1)
    requests = tuple(
        Request(i, 0, int(rng.integers(1, 50)), int(rng.integers(2, 25))) for i in range(12)
    )
    roomy = speak(decoder(), requests, prompt_of=drawing_prompt)
    tight = speak(decoder(), requests, policy, Pools(96, 512, 4, 8), prompt_of=drawing_prompt)
    assert tight.tokens == roomy.tokens
    assert len({tuple(tokens[:2]) for tokens in roomy.tokens.values()}) > 6


class _BrokenError(Exception):
    """The failure that is injected."""


def _break(executor: CpuExecutor, part: str, after: int) -> None:
    """Let one call of a part of the CPU tier raise."""
    model = executor._model
    target, name = {
        "worker": (model.lane.pool, "launch"),
        "store": (model.host, "store"),
        "load": (model.host, "tokens"),
        "decoder": (model.decoder, "post"),
    }[part]
    original, calls = getattr(target, name), iter(range(1 << 30))

    def once_broken(*args: object, **rest: object) -> object:
        if next(calls) == after:
            raise _BrokenError(f"the {part} broke")
        return original(*args, **rest)

    setattr(target, name, once_broken)


@pytest.mark.parametrize("after", [0, 9, 40])
@pytest.mark.parametrize("part", ["worker", "store", "load", "decoder"])
@pytest.mark.parametrize("policy", ["apex", "static:deferred"])
def test_a_broken_part_is_the_error_of_its_requests(part: str, policy: str, after: int) -> None:
    rng = np.random.default_rng(2)
    requests = tuple(
        Request(i, 0, int(rng.integers(1, 50)), int(rng.integers(2, 25))) for i in range(16)
    )
    post = decoder().post
    tight = speak(
        decoder(),
        requests,
        policy,
        Pools(96, 512, 4, 8),
        on_open=lambda executor: _break(executor, part, after),
        max_batched_tokens=33,
    )
    decoder().post = post  # type: ignore[method-assign]
    check_against_a_roomy_run(tight, requests)
    assert tight.log is not None
    statuses = {record.status for record in tight.log.requests}
    assert statuses <= {RequestStatus.COMPLETED, RequestStatus.FAILED}
    failed = [record for record in tight.log.requests if record.status is RequestStatus.FAILED]
    reasons = {record.reason for record in failed}
    assert reasons <= {f"the {part} broke"}
    if part in ("worker", "decoder"):
        assert failed
    if part != "decoder":  # which computes all rows together
        assert RequestStatus.COMPLETED in statuses
