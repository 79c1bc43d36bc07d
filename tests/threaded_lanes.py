"""A backend for lanes on threads that computes nothing, checks the order of ops and can fail."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.expansion import Op, expand
from apexbench.engine.plan import StepPlan
from apexbench.engine.program import Carry, build
from apexbench.records import Request


class BoomError(Exception):
    """The failure that tests inject."""


@dataclass
class Now:
    """CPU attention that is done as soon as somebody waits for it."""

    work: "CheckedStep"
    op: Op

    def wait(self, timeout_s: float | None = None) -> bool:
        self.work.end(self.op)
        self.work.may_fail(self.op, "wait")
        return True


@dataclass
class CheckingBackend:
    """Counts tokens. `failing` draws which ops raise; `order` collects breaches of the program."""

    num_layers: int
    failing: np.random.Generator | None = None
    fail_share: float = 0.0
    left: dict[int, int] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    failed_ops: list[str] = field(default_factory=list)
    tickets: dict[int, tuple["CheckedStep", int]] = field(default_factory=dict)
    offload: tuple["CheckedStep", int] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    num_ops: int = 0

    def admit(self, request: Request) -> None:
        self.left[request.id] = request.output_tokens

    def release(self, request_id: int) -> None:
        self.left.pop(request_id, None)

    def begin(self, plan: StepPlan, before: Carry) -> "CheckedStep":
        return CheckedStep(self, plan, before)

    def drop(self, cohort: int) -> None:
        self.tickets.pop(cohort, None)


class CheckedStep:
    def __init__(self, backend: CheckingBackend, plan: StepPlan, before: Carry) -> None:
        self.backend = backend
        self.plan = plan
        self.ops = expand(build(plan, before, backend.num_layers)[0])
        self.begun: set[int] = set()
        self.ended: set[int] = {0}  # the host's own part
        self.awaited = dict(backend.tickets)
        self.earlier_offload = backend.offload
        for index, op in enumerate(self.ops):
            if op.leaves is not None:
                backend.tickets[plan.cohorts[op.leaves].cohort] = (self, index)
            if op.kind == "offload":
                backend.offload = (self, index)

    def run(self, op: Op) -> None:
        self.begin(op)
        self.may_fail(op, "run")
        self.end(op)

    def pieces(self, op: Op) -> Iterator[None]:
        self.begin(op)
        for _ in range(3):
            yield
            self.may_fail(op, "piece")
        self.end(op)

    def submit(self, op: Op) -> Now:
        self.begin(op)
        self.may_fail(op, "submit")
        return Now(self, op)

    def give_up(self, op: Op) -> None:
        self.end(op)

    def sampled(self) -> Sampled:
        rows: list[int] = []
        for batch in self.plan.batches:
            rows += [*batch.gpu_rows, *batch.in_layer_rows]
            rows += [chunk.sequence for chunk in batch.chunks if chunk.is_last]
        for cohort in self.plan.cohorts:
            if cohort.samples(self.backend.num_layers):
                rows += cohort.rows
        for row in rows:
            self.backend.left[row] -= 1
        finished = frozenset(row for row in rows if self.backend.left[row] <= 0)
        return Sampled(tuple((row, 1) for row in rows), finished)

    def begin(self, op: Op) -> None:
        """Note an op, and a breach if it is early or comes twice."""
        backend = self.backend
        with backend.lock:
            index = self.ops.index(op)
            backend.num_ops += 1
            early = [self.ops[dep].kind for dep in op.deps if dep not in self.ended]
            for position in op.tickets:
                step, ticket = self.awaited[self.plan.cohorts[position].cohort]
                early += ["ticket"] * (ticket not in step.ended)
            if op.awaits_offload and self.earlier_offload is not None:
                step, offload = self.earlier_offload
                early += ["offload"] * (offload not in step.ended)
            if early or index in self.begun:
                backend.breaches.append(f"{op.kind} of layer {op.layer} before {early}, or twice")
            self.begun.add(index)

    def end(self, op: Op) -> None:
        with self.backend.lock:
            self.ended.add(self.ops.index(op))

    def may_fail(self, op: Op, where: str) -> None:
        backend = self.backend
        with backend.lock:
            draw = backend.failing
            if draw is None or draw.random() >= backend.fail_share:
                return
            backend.failed_ops.append(f"{op.kind}.{where}")
        raise BoomError(f"{op.kind} broke")
