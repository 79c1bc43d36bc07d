"""Runs that check themselves: a scheduler under its own laws, and records that must add up."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from apexbench.engine.engine import StepObserver
from apexbench.engine.invariants import CohortWatch, check, check_plan
from apexbench.engine.plan import StepPlan
from apexbench.engine.policies.base import Policy
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.simulate import SimulationSpec, simulate
from apexbench.errors import InvariantError
from apexbench.records import RequestRecord, RequestStatus, RunLog

MAX_CALLS = 20_000  # of schedule(): far more than any drawn workload needs
CANCEL_SHARE = 0.1  # of the moments at which a request may be stopped

Wrap = Callable[[Policy], Policy]


class CheckedScheduler(Scheduler):
    """Checks every plan and every state of the books; with `cancels`, stops requests at random.

    `num_cancelled_mid_token` counts those that a step, cohort or copy held when they were stopped.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        cancels: np.random.Generator | None = None,
        wrap: Wrap | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(policy=wrap(policy) if wrap else policy, **rest)
        self._cancels = cancels
        self._calls_left = MAX_CALLS
        self.num_cancelled_mid_token = 0

    def schedule(  # type: ignore[explicit-override]  # typing.override came with 3.12
        self,
        copied: Iterable[int] = (),
        joinable: frozenset[int] = frozenset(),
        now_ns: int = 0,
    ) -> StepPlan | None:
        """The next step, checked. InvariantError when a law breaks or nothing ever ends."""
        self._calls_left -= 1
        if self._calls_left < 0:
            raise InvariantError(
                f"{self.num_in_flight} requests are still in flight after {MAX_CALLS} steps"
            )
        self._cancel_some()
        plan = super().schedule(copied, joinable, now_ns)
        check(self)
        if plan is not None:
            check_plan(self, plan)
            self._cancel_some()  # the step is under way
            check(self)
        return plan

    def _cancel_some(self) -> None:
        draw = self._cancels
        if draw is None or not self.sequences or draw.random() > CANCEL_SHARE:
            return
        sequence = self.sequences[int(draw.choice(sorted(self.sequences)))]
        held = list(sequence.blocks)
        is_busy = not sequence.is_at_token_boundary
        self.cancel(sequence.id)
        self.num_cancelled_mid_token += is_busy
        if is_busy and sequence.blocks != held:
            raise InvariantError(f"cancelling sequence {sequence.id} freed blocks that are in use")


def run_checked(
    spec: SimulationSpec,
    *,
    cancels: np.random.Generator | None = None,
    wrap: Wrap | None = None,
    observers: tuple[StepObserver, ...] = (),
) -> RunLog:
    """Simulate under every law of the books, of plans and of cohorts; then check the records."""
    checked = partial(CheckedScheduler, cancels=cancels, wrap=wrap)
    log = simulate(spec, observers=(CohortWatch(), *observers), scheduler_type=checked)
    check_records(spec, log)
    return log


def check_records(spec: SimulationSpec, log: RunLog) -> None:
    """Requests and tokens are conserved, times are in order, every refusal says why."""
    requests = {request.id: request for request in spec.workload.requests}
    if [record.id for record in log.requests] != sorted(requests):
        raise InvariantError("the records are not one per request")
    for record in log.requests:
        request = requests[record.id]
        _check_tokens(record, request.prompt_tokens, request.output_tokens)
        _check_times(record)
    _check_sums(log)


def check_served(spec: SimulationSpec, log: RunLog) -> None:
    """Without cancels, every request that some pool can hold is completed."""
    limit = max(log.gpu_kv_tokens, log.cpu_kv_tokens)
    records = {record.id: record for record in log.requests}
    for request in spec.workload.requests:
        record = records[request.id]
        if request.total_tokens <= limit and record.status is not RequestStatus.COMPLETED:
            raise InvariantError(
                f"request {request.id} of {request.total_tokens} tokens is {record.status} though "
                f"a pool holds {limit}: {record.reason}"
            )


def _check_tokens(record: RequestRecord, prompt_tokens: int, output_tokens: int) -> None:
    is_right = (
        record.prompt_tokens == prompt_tokens
        and record.cpu_decode_tokens <= record.output_tokens <= output_tokens
        and (record.output_tokens > 0) == (record.first_token_ns is not None)
    )
    if record.status is RequestStatus.COMPLETED:
        is_right = is_right and record.output_tokens == output_tokens
    elif not record.reason:
        raise InvariantError(f"request {record.id} is {record.status} without a reason")
    if not is_right:
        raise InvariantError(f"request {record.id} has the wrong number of tokens")


def _check_times(record: RequestRecord) -> None:
    times = [record.arrival_ns, record.start_ns, record.first_token_ns, record.end_ns]
    known = [time for time in times if time is not None]
    if known != sorted(known):
        raise InvariantError(f"the times of request {record.id} are out of order: {times}")
    if record.status is RequestStatus.COMPLETED and None in times:
        raise InvariantError(f"request {record.id} is completed and has no {times}")


def _check_sums(log: RunLog) -> None:
    completed = sum(record.status is RequestStatus.COMPLETED for record in log.requests)
    last = log.checkpoints[-1]
    gaps = sum(max(0, record.output_tokens - 1) for record in log.requests)
    if (
        last.output_tokens != sum(record.output_tokens for record in log.requests)
        or last.completed != completed
        or sum(log.token_gaps.counts) != gaps
    ):
        raise InvariantError("the run's totals differ from the sums over its requests")
