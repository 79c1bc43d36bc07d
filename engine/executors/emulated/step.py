"""One step's ops: GPU work and copies by waiting for their modelled ends, CPU attention for real.

Each method runs on the thread of the op's lane.
"""

from collections.abc import Iterator

from apexbench.cpu_kernels import Ticket
from apexbench.engine.executors.durations import Durations
from apexbench.engine.executors.emulated.cpu_rows import GroupRows
from apexbench.engine.executors.emulated.emulation import Emulation
from apexbench.engine.executors.emulated.int_log import CpuJob, StepFact
from apexbench.engine.executors.emulated.logical import StepTimes
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.executors.threads.work import Sampled
from apexbench.engine.expansion import Op
from apexbench.engine.host_ops import PIECE_BYTES
from apexbench.engine.plan import ENTER, StepPlan
from apexbench.errors import InvariantError

_FIRST_COHORT = 2  # groups by number: A, B, then the plan's cohorts


class EmulatedStep:
    """The work of one plan. `groups` are its CPU rows by the group of their ops."""

    def __init__(self, emulation: Emulation, plan: StepPlan, groups: dict[str, GroupRows]) -> None:
        self._emulation = emulation
        self._plan = plan
        self._durations = Durations(plan, emulation.costs)
        self._groups = groups
        self._begin_ns = 0
        self._times: StepTimes | None = None

    def follow(self, step: StepRun, begin_ns: int) -> None:
        """Take over the step's ops, before any of them runs; by the model it begins then."""
        self._begin_ns = begin_ns
        scheduled_ns = begin_ns + self._durations.schedule()
        self._times = StepTimes(step, scheduled_ns, self._emulation.outstanding)

    @property
    def times(self) -> StepTimes:
        """The logical ends of the step's ops."""
        if self._times is None:
            raise InvariantError("a step ran that nobody has begun")
        return self._times

    def run(self, op: Op) -> None:
        """Let the op's time pass."""
        duration_ns, ready_ns = self._durations.of(op), self.times.ready_ns(op)
        self.times.end(op, self._emulation.pass_time(op.lane, duration_ns, ready_ns))

    def pieces(self, op: Op) -> Iterator[None]:
        """The same piece by piece; the first carries what is left when the others are equal."""
        total, ready_ns = self._durations.of(op), self.times.ready_ns(op)
        num_pieces = max(1, -(-self._durations.copy_bytes(op.kind) // PIECE_BYTES))
        share, end_ns = total // num_pieces, ready_ns
        for piece in range(num_pieces):
            duration_ns = share if piece else total - share * (num_pieces - 1)
            end_ns = self._emulation.pass_time(op.lane, duration_ns, ready_ns)
            yield
        self.times.end(op, end_ns)

    def submit(self, op: Op) -> "RunningAttention":
        """Start the rows' attention in the C library."""
        rows = self._groups[op.group]
        layer = self.kv_layer(op)
        job = CpuJob(
            *(self._plan.index, self.group_number(op), layer, op.priority),
            *(rows.num_rows, rows.kv_tokens, self.times.ready_ns(op)),
            *(self._emulation.clock.now_ns(), 0),
        )
        return RunningAttention(self, op, rows, job, rows.attend(layer, op.priority))

    def attended(self, op: Op, rows: GroupRows, job: CpuJob) -> None:
        """The op's attention is done."""
        end_ns = self._emulation.clock.run_ns(rows.end_ns)
        self._emulation.cpu_jobs.add(job._replace(end_ns=end_ns))
        self.times.end(op, end_ns)

    def give_up(self, op: Op) -> None:
        """The op failed: those that wait for it go on now."""
        self.times.end(op, self._emulation.clock.now_ns())

    def sampled(self) -> Sampled:
        """Tokens are counted."""
        emulation, times = self._emulation, self.times
        emulation.steps.add(
            StepFact(self._plan.index, self._begin_ns, times.scheduled_ns, times.sampled_ns)
        )
        sampling = [c for c in self._plan.cohorts if c.samples(emulation.num_layers)]
        return Sampled(*emulation.tokens.sample(self._plan, sampling))

    def kv_layer(self, op: Op) -> int:
        """Rows that leave with post(l)+pre(l+1) attend in layer l + 1, wherever their op stands."""
        if op.leaves is None:
            assert op.layer is not None
            return op.layer
        step = self._plan.cohorts[op.leaves]
        return 0 if step.action is ENTER else step.layer + 1

    def group_number(self, op: Op) -> int:
        """As in CpuJob."""
        return _FIRST_COHORT + int(op.group[1:]) if op.group[0] == "c" else int(op.group == "B")


class RunningAttention:
    """A job that the workers have."""

    __slots__ = ("_job", "_op", "_rows", "_step", "_ticket")

    def __init__(
        self, step: EmulatedStep, op: Op, rows: GroupRows, job: CpuJob, ticket: Ticket
    ) -> None:
        self._step = step
        self._op = op
        self._rows = rows
        self._job = job
        self._ticket = ticket

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until it is done; its logical end is the time that the worker stamped."""
        if not self._ticket.wait(timeout_s):
            return False
        self._step.attended(self._op, self._rows, self._job)
        return True
