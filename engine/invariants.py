"""The scheduler's laws as functions: InvariantError names the law that broke. Changes nothing."""

from collections import Counter
from collections.abc import Iterable

from apexbench.engine.blocks import BlockPool
from apexbench.engine.plan import CohortAction, CohortStep, PrefillChunk, StepPlan, StepResult
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.sequence import Phase, Sequence, Tier
from apexbench.errors import InvariantError


def check(scheduler: Scheduler) -> None:
    """Every law of the books, between two steps or between schedule and commit."""
    _check_queues(scheduler)
    _check_tokens(scheduler)
    _check_cohorts(scheduler)
    for tier in Tier:
        _check_blocks(scheduler, tier)


def check_plan(scheduler: Scheduler, plan: StepPlan) -> None:
    """Every law of a plan, after it was scheduled and before it is committed."""
    if plan.swap_in_tokens and plan.swap_out_tokens:
        raise InvariantError(f"step {plan.index} mixes swap-in and swap-out")
    placed = Counter(_placed(plan))
    if placed and max(placed.values()) > 1:
        raise InvariantError(
            f"step {plan.index} places sequence {max(placed, key=placed.__getitem__)} twice"
        )
    _check_batches(scheduler, plan)
    for chunk in plan.batches[0].chunks:
        _check_chunk(scheduler, chunk)
    for step in plan.cohorts:
        _check_cohort_step(scheduler, step)


class CohortWatch:
    """Follows cohorts from pre(0) to their token; an observer of the engine's steps.

    Nobody joins or leaves a cohort meanwhile, and no row's blocks are moved, freed or preempted.
    """

    def __init__(self) -> None:
        self._entered: dict[int, tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]] = {}

    def __call__(self, plan: StepPlan, result: StepResult, scheduler: Scheduler) -> None:
        """Check the books after a committed step; matches engine.StepObserver."""
        del result
        check(scheduler)
        active = {cohort.id: cohort for cohort in scheduler.cohorts}
        for step in plan.cohorts:
            if step.action is CohortAction.ENTER and step.cohort in active:
                self._entered[step.cohort] = _holdings(active[step.cohort].rows)
        self._entered = {key: held for key, held in self._entered.items() if key in active}
        for key, held in self._entered.items():
            if _holdings(active[key].rows) != held:
                raise InvariantError(f"cohort {key} changed its rows or their blocks mid-token")


def _holdings(
    rows: Iterable[Sequence],
) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    listed = tuple(rows)
    return tuple(row.id for row in listed), tuple(tuple(row.blocks) for row in listed)


def _placed(plan: StepPlan) -> Iterable[int]:
    for batch in plan.batches:
        yield from batch.gpu_rows
        yield from batch.in_layer_rows
        yield from (chunk.sequence for chunk in batch.chunks)
    for step in plan.cohorts:
        yield from step.rows


# -- the books -------------------------------------------------------------------------------------


def _check_queues(scheduler: Scheduler) -> None:
    """Every sequence in flight is in exactly the queue that its phase and tier say."""
    queues = {
        "waiting": list(scheduler.waiting),
        "prefilling": list(scheduler.prefilling),
        "gpu_rows": list(scheduler.gpu_rows),
        "cpu_rows": list(scheduler.cpu_rows),
    }
    seen: dict[int, str] = {}
    for name, queue in queues.items():
        for sequence in queue:
            if sequence.id in seen:
                raise InvariantError(f"sequence {sequence.id} is in {seen[sequence.id]} and {name}")
            seen[sequence.id] = name
            if _queue_of(sequence) != name:
                raise InvariantError(
                    f"sequence {sequence.id} is in {name} in phase {sequence.phase} on "
                    f"{sequence.tier}"
                )
    if seen.keys() != scheduler.sequences.keys():
        raise InvariantError(
            f"sequences {seen.keys() ^ scheduler.sequences.keys()} are in no queue"
        )
    _check_order("waiting", queues["waiting"])
    _check_order("free CPU rows", list(scheduler.cpu_rows.free))
    _check_free(scheduler)


def _check_free(scheduler: Scheduler) -> None:
    """Free are exactly the CPU rows at a token boundary, and the running sums agree."""
    free = scheduler.cpu_rows.free
    expected = {row.id for row in scheduler.cpu_rows if row.is_at_token_boundary}
    listed = {row.id for row in free}
    flagged = {s.id for s in scheduler.sequences.values() if s.is_free}
    if not listed == expected == flagged:
        raise InvariantError(f"free CPU rows are {expected}, listed {listed}, marked {flagged}")
    if scheduler.cpu_rows.free_kv_tokens != sum(row.computed + 1 for row in free):
        raise InvariantError("the KV tokens of free CPU rows are counted wrongly")
    if scheduler.gpu_rows.kv_tokens != sum(row.computed + 1 for row in scheduler.gpu_rows):
        raise InvariantError("the KV tokens of GPU rows are counted wrongly")


def _queue_of(sequence: Sequence) -> str:
    if sequence.phase is Phase.DECODE:
        return "gpu_rows" if sequence.tier is Tier.GPU else "cpu_rows"
    return {Phase.WAITING: "waiting", Phase.PREFILL: "prefilling"}.get(sequence.phase, "none")


def _check_order(name: str, queue: list[Sequence]) -> None:
    orders = [sequence.order for sequence in queue]
    if orders != sorted(orders):
        raise InvariantError(f"{name} is not in order of arrival")


def _check_tokens(scheduler: Scheduler) -> None:
    """KV is stored for every token but the newest; blocks cover what is stored."""
    for sequence in scheduler.sequences.values():
        known = sequence.prompt_tokens + sequence.generated
        if sequence.phase is Phase.DECODE:
            is_right = sequence.computed == known - 1
        elif sequence.phase is Phase.PREFILL:
            is_right = sequence.computed < sequence.target == known
        else:
            is_right = sequence.computed == 0 and not sequence.blocks
        if not is_right:
            raise InvariantError(
                f"sequence {sequence.id} ({sequence.phase}) stores {sequence.computed} of {known} "
                "tokens"
            )
        if not _covers(scheduler, sequence, sequence.computed):
            raise InvariantError(f"blocks of sequence {sequence.id} do not cover its KV")
        if sequence.room != _room(scheduler, sequence):
            raise InvariantError(f"sequence {sequence.id} counts its room wrongly")


def _room(scheduler: Scheduler, sequence: Sequence) -> int:
    if not sequence.blocks:
        return 0
    return len(sequence.blocks) * scheduler.memory.pool(sequence.tier).block_tokens


def _covers(scheduler: Scheduler, sequence: Sequence, tokens: int) -> bool:
    return _room(scheduler, sequence) >= tokens


def _check_cohorts(scheduler: Scheduler) -> None:
    """A cohort's rows decode on the CPU, know their cohort, and hold room for their token."""
    members: dict[int, int] = {}
    for cohort in scheduler.cohorts:
        for row in cohort.rows:
            is_legal = row.cohort == cohort.id and row.phase is Phase.DECODE
            if not is_legal or row.tier is not Tier.CPU or row.id in members:
                raise InvariantError(f"row {row.id} does not belong in cohort {cohort.id}")
            if not _covers(scheduler, row, row.computed + 1):
                raise InvariantError(
                    f"row {row.id} of cohort {cohort.id} has no room for its token"
                )
            members[row.id] = cohort.id
        if cohort.kv_tokens != sum(row.computed + 1 for row in cohort.rows):
            raise InvariantError(f"cohort {cohort.id} counts its KV tokens wrongly")
    for sequence in scheduler.sequences.values():
        if sequence.cohort != members.get(sequence.id):
            raise InvariantError(f"sequence {sequence.id} believes to be in another cohort")


def _check_blocks(scheduler: Scheduler, tier: Tier) -> None:
    """Owned + free + quarantined = all, and no block twice."""
    memory = scheduler.memory
    if tier is Tier.CPU and memory.cpu is None:
        return
    pool = memory.pool(tier)
    held = [s.blocks for s in scheduler.sequences.values() if s.tier is tier]
    held += [s.blocks for s in scheduler.quarantined if s.tier is tier]
    held += memory.leaving if tier is Tier.CPU else []
    _check_pool(pool, tier, [block for blocks in held for block in blocks])


def _check_pool(pool: BlockPool, tier: Tier, owned: list[int]) -> None:
    if len(set(owned)) != len(owned):
        raise InvariantError(f"a KV block of the {tier} pool has two owners")
    if len(owned) + pool.num_free != pool.num_blocks:
        raise InvariantError(
            f"the {tier} pool has {pool.num_blocks} blocks: {len(owned)} owned or quarantined, "
            f"{pool.num_free} free"
        )
    if any(pool.is_free(block) for block in owned):
        raise InvariantError(f"an owned KV block of the {tier} pool is on the free list")


# -- a plan ----------------------------------------------------------------------------------------


def _check_batches(scheduler: Scheduler, plan: StepPlan) -> None:
    first, *others = plan.batches
    if any(batch.gpu_rows or batch.chunks for batch in others):
        raise InvariantError(f"step {plan.index} has GPU work outside sub-batch A")
    if set(first.gpu_rows) != {row.id for row in scheduler.gpu_rows}:
        raise InvariantError(f"step {plan.index} leaves GPU rows out")
    if _kv_tokens(scheduler, first.gpu_rows, Tier.GPU) != first.gpu_kv_tokens:
        raise InvariantError(f"step {plan.index} counts GPU KV tokens wrongly")
    for batch in plan.batches:
        if _kv_tokens(scheduler, batch.in_layer_rows, Tier.CPU) != batch.in_layer_kv_tokens:
            raise InvariantError(f"step {plan.index} counts CPU KV tokens wrongly")


def _kv_tokens(scheduler: Scheduler, rows: tuple[int, ...], tier: Tier) -> int:
    """KV tokens that rows at a token boundary read; each must have room for one more."""
    total = 0
    for row_id in rows:
        row = scheduler.sequences.get(row_id)
        if row is None or row.tier is not tier or row.phase is not Phase.DECODE:
            raise InvariantError(f"row {row_id} does not decode on {tier}")
        if not row.is_at_token_boundary:
            raise InvariantError(f"row {row_id} is not at a token boundary")
        if not _covers(scheduler, row, row.computed + 1):
            raise InvariantError(f"row {row_id} has no room for its next token")
        total += row.computed + 1
    return total


def _check_chunk(scheduler: Scheduler, chunk: PrefillChunk) -> None:
    sequence = scheduler.sequences.get(chunk.sequence)
    if sequence is None or sequence.phase is not Phase.PREFILL:
        raise InvariantError(f"sequence {chunk.sequence} has a chunk and is not prefilling")
    left = sequence.target - sequence.computed
    is_right = (
        chunk.tier is sequence.tier
        and chunk.context_tokens == sequence.computed
        and 0 < chunk.new_tokens <= left
        and chunk.is_last == (chunk.new_tokens == left)
    )
    if not is_right or not _covers(scheduler, sequence, sequence.target):
        raise InvariantError(f"the chunk of sequence {chunk.sequence} does not match its state")


def _check_cohort_step(scheduler: Scheduler, step: CohortStep) -> None:
    cohort = next((c for c in scheduler.cohorts if c.id == step.cohort), None)
    if cohort is None:
        raise InvariantError(f"cohort {step.cohort} is in the plan and not outstanding")
    is_same = cohort.row_ids == step.rows and cohort.kv_tokens == step.kv_tokens
    if not is_same or cohort.layer != step.layer:
        raise InvariantError(f"cohort {step.cohort} in the plan differs from the books")
