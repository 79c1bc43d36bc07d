"""The backend of pretended GPU time and real CPU attention: what its steps share."""

from collections.abc import Callable, Sequence

from apexbench.engine.executors.emulated.cpu_rows import GroupRows, HostRows
from apexbench.engine.executors.emulated.emulation import Emulation
from apexbench.engine.executors.emulated.step import EmulatedStep
from apexbench.engine.executors.threads.step_run import StepRun
from apexbench.engine.plan import ENTER, StepPlan
from apexbench.engine.program import Carry
from apexbench.errors import InvariantError
from apexbench.records import Request

BlocksOf = Callable[[int], Sequence[int]]


def _no_blocks(sequence: int) -> Sequence[int]:
    raise InvariantError(f"nobody has said which KV blocks sequence {sequence} has")


class EmulatedBackend:
    """`host` None: there is no CPU tier."""

    def __init__(self, emulation: Emulation, host: HostRows | None) -> None:
        self.emulation = emulation
        self.blocks_of: BlocksOf = _no_blocks
        self._host = host
        self._cohorts: dict[int, GroupRows] = {}
        self._in_layer: list[GroupRows] = []
        self._requests: dict[int, Request] = {}
        self._idle_until_ns = 0

    @property
    def num_layers(self) -> int:
        """Decoder layers of the model."""
        return self.emulation.num_layers

    def admit(self, request: Request) -> None:
        """A request exists from now on."""
        self._requests[request.id] = request
        self.emulation.tokens.admit(request)

    def release(self, request_id: int) -> None:
        """The request has ended."""
        self._requests.pop(request_id, None)
        self.emulation.tokens.release(request_id)

    def begin(self, plan: StepPlan, before: Carry) -> EmulatedStep:
        """Prepare the jobs of a step's CPU rows."""
        self._collect(before)
        groups = {
            name: self._in_layer_group(batch.in_layer_rows)
            for name, batch in zip("AB", plan.batches, strict=False)
            if batch.in_layer_rows
        }
        for place, (cohort, action, _, rows, _) in enumerate(plan.cohorts):
            if action is ENTER:
                self._cohorts[cohort] = self._group(rows)
            groups[f"c{place}"] = self._cohorts[cohort]
        return EmulatedStep(self.emulation, plan, groups)

    def follow(self, step: StepRun, work: EmulatedStep) -> None:
        """The step is about to run: the model lets it begin when the GPU lane became free, or when
        the engine stopped waiting for work.
        """
        work.follow(step, max(self.emulation.lanes["gpu"].free_ns, self._idle_until_ns))

    def idled_until(self, now_ns: int) -> None:
        """There was nothing to run until now."""
        self._idle_until_ns = now_ns

    def drop(self, cohort: int) -> None:
        """A cohort was given up: nobody will join it."""
        rows = self._cohorts.pop(cohort, None)
        if rows is not None:
            self._host_rows.give_back(rows)

    @property
    def _host_rows(self) -> HostRows:
        if self._host is None:
            raise InvariantError("a plan has rows on a host tier that this run does not have")
        return self._host

    def _collect(self, before: Carry) -> None:
        """Take back the groups of the step before and of cohorts that have sampled."""
        self.emulation.outstanding.keep_only(before.cohorts)
        ended = [cohort for cohort in self._cohorts if cohort not in before.cohorts]
        done = self._in_layer + [self._cohorts.pop(cohort) for cohort in ended]
        self._in_layer = []
        for rows in done:
            self._host_rows.give_back(rows)

    def _in_layer_group(self, ids: tuple[int, ...]) -> GroupRows:
        group = self._group(ids)
        self._in_layer.append(group)
        return group

    def _group(self, ids: tuple[int, ...]) -> GroupRows:
        """Rows attend to their prompt and all tokens so far, the last one appended now."""
        tables = [self.blocks_of(row) for row in ids]
        return self._host_rows.take(tables, [self._context_of(row) for row in ids])

    def _context_of(self, row: int) -> int:
        return self._requests[row].total_tokens - self.emulation.tokens.left(row)
