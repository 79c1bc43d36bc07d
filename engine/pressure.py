"""Memory pressure: who gives way when KV blocks run out, and who comes back when they are free."""

from apexbench.engine.books import Books
from apexbench.engine.rows import BY_ORDER
from apexbench.engine.sequence import Phase, Sequence, Tier


def reserve_gpu_rows(books: Books) -> int | None:
    """A block for the next token of every GPU row, oldest first; the newest give way.

    Returns the KV tokens moved to the host to make room, or None when nobody had to leave.
    """
    moved: int | None = None
    grow, rows = books.memory.grow, books.gpu_rows
    for row in rows.due():
        while _is_on_gpu(row) and not grow(row):
            moved = (moved or 0) + _preempt(books, _newest_on_gpu(books))
        if _is_on_gpu(row):
            rows.file(row)
    return moved


def swap_in(books: Books, fraction: float) -> int:
    """Bring the oldest free CPU rows to the GPU while its used blocks stay within `fraction`.

    Rows that the GPU could never hold are passed over, so that they bar nobody. Returns the KV
    tokens moved.
    """
    gpu = books.memory.gpu
    limit = int(fraction * gpu.num_blocks)
    moved = 0
    while books.cpu_rows.free and gpu.num_used < limit:
        row = next((r for r in books.cpu_rows.free if _blocks(books, r) <= limit), None)
        if row is None or gpu.num_used + _blocks(books, row) > limit:
            break
        if not books.move_to_gpu(row):
            break
        moved += row.computed
    return moved


def reserve_cpu_rows(books: Books, rows: list[Sequence]) -> None:
    """A block for the next token of free CPU rows, oldest first; the newest free rows give way.

    Who gave way is no longer free.
    """
    for row in sorted([row for row in rows if row.computed >= row.room], key=BY_ORDER):
        while row.is_free and not books.memory.grow(row):
            books.recompute(books.cpu_rows.free[-1])


def _is_on_gpu(row: Sequence) -> bool:
    return row.phase is Phase.DECODE and row.tier is Tier.GPU


def _blocks(books: Books, row: Sequence) -> int:
    return books.memory.gpu.blocks_for(row.computed + 1)


def _newest_on_gpu(books: Books) -> Sequence:
    on_gpu = [sequence for sequence in books.prefilling if sequence.tier is Tier.GPU]
    on_gpu += books.gpu_rows
    newest: Sequence = max(on_gpu, key=BY_ORDER)
    return newest


def _preempt(books: Books, victim: Sequence) -> int:
    """Move a GPU row to the host, else recompute it later; returns KV tokens moved."""
    if victim.phase is Phase.DECODE and books.move_to_host(victim):
        return victim.computed
    books.recompute(victim)
    return 0
