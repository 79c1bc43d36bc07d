"""Turns a policy's choice into a step plan: checks it, reserves memory for it, keeps rows alive."""

from apexbench.engine.books import Books
from apexbench.engine.cohorts import CohortBook
from apexbench.engine.plan import CohortStep, PrefillChunk, StepPlan, SubBatch
from apexbench.engine.policies.base import Candidates, Choice, Policy
from apexbench.engine.policies.laws import ChoiceLaws
from apexbench.engine.pressure import reserve_cpu_rows
from apexbench.engine.sequence import Sequence
from apexbench.engine.thresholds import Thresholds
from apexbench.errors import ApexbenchError


class Placement:
    """Asks the policy what the CPU does and writes the plan."""

    __slots__ = ("_books", "_cohorts", "_laws", "_policy", "_thresholds")

    def __init__(
        self,
        books: Books,
        cohorts: CohortBook,
        policy: Policy,
        laws: ChoiceLaws,
        thresholds: Thresholds,
    ) -> None:
        self._books = books
        self._cohorts = cohorts
        self._policy = policy
        self._laws = laws
        self._thresholds = thresholds

    def plan(
        self,
        index: int,
        chunks: tuple[PrefillChunk, ...],
        joinable: frozenset[int] | None,
        swapped: tuple[int, int],
    ) -> StepPlan | None:
        """The step's plan, or None when there is nothing to run. `swapped` is KV tokens in, out."""
        gpu = self._books.gpu_rows
        free = self._books.cpu_rows.free
        if not (free or chunks or self._cohorts):
            if not (gpu or swapped[1]):
                return None
            batch = SubBatch((), gpu.ids, gpu.kv_tokens)
            return StepPlan(index, (batch,), (), *swapped, moves=self._books.memory.take_moves())
        choice = self._choice(index, chunks, free, sum(swapped))
        if choice.drops:
            chunks = tuple([chunk for chunk in chunks if chunk.sequence not in choice.drops])
        rows_a, rows_b, entering = self._rows_of(choice)
        is_busy = bool(gpu.ids or chunks or rows_a or rows_b or entering)
        cohorts = self._cohort_steps(choice, joinable, is_busy=is_busy)
        if entering:
            cohorts += (self._enter(entering),)
        if not (is_busy or cohorts or swapped[1]):
            return None
        first = SubBatch(chunks, gpu.ids, gpu.kv_tokens, *_ids(rows_a))
        batches = (first, SubBatch((), (), 0, *_ids(rows_b))) if rows_b else (first,)
        return StepPlan(
            *(index, batches, cohorts, *swapped),
            planning_ns=choice.planning_ns,
            was_chosen=True,
            moves=self._books.memory.take_moves(),
        )

    def _choice(
        self,
        index: int,
        chunks: tuple[PrefillChunk, ...],
        free: tuple[Sequence, ...],
        swapped_tokens: int,
    ) -> Choice:
        books, cohorts = self._books, self._cohorts
        work = Candidates(
            *(chunks, len(books.gpu_rows), books.gpu_rows.kv_tokens),
            *(free, books.cpu_rows.free_kv_tokens),
            *(len(cohorts), cohorts.num_rows, cohorts.steps_since_entry, swapped_tokens),
        )
        try:
            choice = self._policy.choose(work)
        except ApexbenchError:
            raise
        except Exception as error:
            raise self._laws.raised(index, error) from error
        self._laws.check(index, work, choice, books.sequences)
        return self._kept_alive(work, choice)

    def _kept_alive(self, work: Candidates, choice: Choice) -> Choice:
        """When a step would otherwise be empty, the CPU rows run: nothing waits for ever."""
        if choice.in_layer_a or choice.in_layer_b or choice.enter:
            return choice
        if work.num_gpu_rows or len(work.chunks) > len(choice.drops):
            return choice
        if work.num_cohorts and not choice.freezes_cohorts:
            return choice
        if choice.drops:
            return choice._replace(drops=())
        rows = tuple([row.id for row in work.cpu_rows[: self._thresholds.max_running_rows]])
        return Choice(in_layer_a=rows, promotes_cohorts=work.num_cohorts > 0)

    def _rows_of(self, choice: Choice) -> tuple[list[Sequence], list[Sequence], list[Sequence]]:
        """The chosen rows for A, B and a new cohort, less those that lost their blocks."""
        chosen = (*choice.in_layer_a, *choice.in_layer_b, *choice.enter)
        if not chosen:
            return [], [], []
        sequences = self._books.sequences
        rows = [sequences[row_id] for row_id in chosen]
        reserve_cpu_rows(self._books, rows)
        end_a = len(choice.in_layer_a)
        end_b = end_a + len(choice.in_layer_b)
        return (
            [row for row in rows[:end_a] if row.is_free],
            [row for row in rows[end_a:end_b] if row.is_free],
            [row for row in rows[end_b:] if row.is_free],
        )

    def _cohort_steps(
        self, choice: Choice, joinable: frozenset[int] | None, *, is_busy: bool
    ) -> tuple[CohortStep, ...]:
        """What outstanding cohorts do. With nothing else to run, a join waits for its result."""
        if not self._cohorts:
            return ()
        limits = self._thresholds
        if choice.freezes_cohorts and self._cohorts.freeze(limits.max_frozen_steps):
            return ()
        arrived = joinable if is_busy else None
        return self._cohorts.steps(arrived, choice.promotes_cohorts, limits.max_missed_polls)

    def _enter(self, rows: list[Sequence]) -> CohortStep:
        for row in rows:
            self._books.cpu_rows.hold(row)
        return self._cohorts.enter(tuple(rows))


def _ids(rows: list[Sequence]) -> tuple[tuple[int, ...], int]:
    """Row ids and what their attention reads."""
    return tuple([row.id for row in rows]), sum([row.computed for row in rows]) + len(rows)
