"""When ops end by the model: each after all it depends on and after its lane's earlier work.

Logical times are nanoseconds on the run's clock. Threads follow them; they are never moved by a
thread that comes late, so lateness does not add up. Only what the host really does, CPU attention
and scheduling, enters with its real time.
"""

from collections.abc import Mapping

from apexbench.engine.executors.emulated.lateness import LatenessMeter
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.expansion import Op


class LaneTime:
    """The modelled end of what a lane was given so far, and how late its thread is."""

    __slots__ = ("free_ns", "lateness")

    def __init__(self) -> None:
        self.free_ns = 0
        self.lateness = LatenessMeter()


class Moment:
    """An end that is awaited by ops of a later step."""

    __slots__ = ("end_ns",)

    def __init__(self) -> None:
        self.end_ns = 0


class Outstanding:
    """What later steps wait for: CPU attention of cohorts, by id, and the last offload."""

    __slots__ = ("offload", "tickets")

    def __init__(self) -> None:
        self.tickets: dict[int, Moment] = {}
        self.offload = Moment()

    def keep_only(self, cohorts: Mapping[int, object]) -> None:
        """Forget cohorts that have ended."""
        for cohort in [c for c in self.tickets if c not in cohorts]:
            del self.tickets[cohort]


class StepTimes:
    """Logical ends of one step's ops. `scheduled_ns` is the least end of the host's own op.

    An op's end is written before the op counts as done, and read by others only after that.
    """

    def __init__(self, step: StepRun, scheduled_ns: int, outstanding: Outstanding) -> None:
        self._runs = step.runs
        self._place = {id(run.op): place for place, run in enumerate(step.runs)}
        self._ends = [0] * len(step.runs)
        self._ends[0] = scheduled_ns
        self._awaited: dict[int, list[Moment]] = {}  # of earlier steps, by place
        self._moments: dict[int, Moment] = {}  # for later steps, by place
        cohorts = [step.cohort for step in step.plan.cohorts]
        self._await_earlier(cohorts, outstanding)
        self._promise_later(cohorts, outstanding)

    def ready_ns(self, op: Op) -> int:
        """When all that the op depends on has ended."""
        place = self._place[id(op)]
        ready = 0
        for dependency in op.deps:
            ready = max(ready, self._end_of(dependency))
        for moment in self._awaited.get(place, ()):
            ready = max(ready, moment.end_ns)
        return ready

    def end(self, op: Op, end_ns: int) -> None:
        """The op ends at that time."""
        place = self._place[id(op)]
        self._ends[place] = end_ns
        if place in self._moments:
            self._moments[place].end_ns = end_ns

    @property
    def scheduled_ns(self) -> int:
        """The host's own op takes the modelled time, or its real one where that is longer."""
        return max(self._ends[0], self._runs[0].end_ns)

    @property
    def sampled_ns(self) -> int:
        """The end of the last op."""
        return self._ends[-1]

    def _end_of(self, place: int) -> int:
        return self._ends[place] if place else self.scheduled_ns

    def _await_earlier(self, cohorts: list[int], outstanding: Outstanding) -> None:
        for place, run in enumerate(self._runs):
            op = run.op
            if op.tickets or op.awaits_offload:
                found = [outstanding.tickets[cohorts[position]] for position in op.tickets]
                self._awaited[place] = found + [outstanding.offload] * op.awaits_offload

    def _promise_later(self, cohorts: list[int], outstanding: Outstanding) -> None:
        for place, run in enumerate(self._runs):
            if run.op.leaves is not None:
                moment = outstanding.tickets[cohorts[run.op.leaves]] = Moment()
                self._moments[place] = moment
        offloads = [place for place, run in enumerate(self._runs) if run.op.kind == "offload"]
        if offloads:
            outstanding.offload = self._moments[offloads[-1]] = Moment()
