"""Lanes on threads: random runs keep the program's order, lose nothing, and survive failures."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.clock import WallClock
from apexbench.engine.contract import drawn
from apexbench.engine.contract.checked import CheckedScheduler, check_records, check_served
from apexbench.engine.executors.threads.executor import ThreadedExecutor
from apexbench.engine.running import run
from apexbench.engine.simulate import SimulationSpec
from apexbench.records import LANES, RequestStatus, RunLog
from tests.threaded_lanes import CheckingBackend

POLICIES = (
    "gpu-only", "neo", "apex", "planner", "fastdecode", "static:deferred", "static:two_batch",
    "static:in_layer",
)  # fmt: skip


def _spec(rng: np.random.Generator, policy: str) -> SimulationSpec:
    """Drawn costs are beliefs here; real devices' have 32 layers, the backend has not."""
    while True:
        spec = drawn.spec(rng, policy)
        if spec.belief.num_layers == drawn.LAYERS:
            return spec


def _run(
    spec: SimulationSpec, backend: CheckingBackend, cancels: np.random.Generator | None
) -> tuple[RunLog, ThreadedExecutor]:
    clock = WallClock()
    with ThreadedExecutor(backend, clock) as executor:
        checked = partial(CheckedScheduler, cancels=cancels)
        log = run(spec, executor, clock, drawn.LAYERS, scheduler_type=checked)
    return log, executor


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), policy=st.sampled_from(POLICIES), cancels=st.booleans())
def test_ops_run_in_the_programs_order_and_nothing_is_lost(
    seed: int, policy: str, cancels: bool
) -> None:
    rng = np.random.default_rng(seed)
    spec = _spec(rng, policy)
    backend = CheckingBackend(drawn.LAYERS)
    log, executor = _run(spec, backend, rng if cancels else None)
    assert backend.breaches == []
    check_records(spec, log)
    if not cancels:
        check_served(spec, log)
    assert backend.left == {}  # every request was released
    assert len(executor.busy_ns) == len(LANES)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), policy=st.sampled_from(POLICIES))
def test_a_failure_is_the_error_of_its_requests_and_the_engine_goes_on(
    seed: int, policy: str
) -> None:
    rng = np.random.default_rng(seed)
    spec = _spec(rng, policy)
    backend = CheckingBackend(drawn.LAYERS, failing=rng, fail_share=0.01)
    log, _ = _run(spec, backend, None)
    assert backend.breaches == []
    limit = max(log.gpu_kv_tokens, log.cpu_kv_tokens)
    requests = {request.id: request for request in spec.workload.requests}
    for record in log.requests:
        if record.status is RequestStatus.FAILED and record.reason.endswith("broke"):  # type: ignore[union-attr]
            assert backend.failed_ops
        elif requests[record.id].total_tokens <= limit:
            assert record.status is RequestStatus.COMPLETED, record
    failed = [r for r in log.requests if r.reason is not None and r.reason.endswith("broke")]
    if not backend.failed_ops:
        assert not failed


@pytest.mark.parametrize("policy", ["static:deferred", "static:two_batch"])
def test_timelines_hold_every_lane_that_worked(policy: str) -> None:
    found: set[str] = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        log, _ = _run(_spec(rng, policy), CheckingBackend(drawn.LAYERS), None)
        for timeline in log.timelines:
            for span in timeline.spans:
                assert timeline.record.start_ns <= span.start_ns <= span.end_ns
                assert span.end_ns <= timeline.record.end_ns
                found.add(span.lane)
    assert found == {"gpu", "cpu", "h2d", "d2h", "host"}
