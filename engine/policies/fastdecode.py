"""FastDecode: all decode attention on the CPU, two equal sub-batches that alternate (2403.11421).

It has no rule that protects the GPU from waiting. The paper's order of starting sequences, which
keeps the CPU's load level, is left to the arrivals.
"""

from apexbench.engine.policies.base import GPU_ONLY, Candidates, Choice, PolicyContext, Row


class FastDecode:
    """Every CPU row takes part in every step; the GPU does linear work and prompts."""

    name = "fastdecode"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._max_rows = context.thresholds.max_running_rows

    def choose(self, work: Candidates) -> Choice:
        """All rows, halved by attention work; A also has the prompts."""
        rows = work.cpu_rows[: self._max_rows]
        if not rows:
            return GPU_ONLY
        first, second = _halves(rows, starts_with_b=work.base_rows > 0)
        return Choice(in_layer_a=first, in_layer_b=second)


def _halves(
    rows: tuple[Row, ...], *, starts_with_b: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Oldest first, each to the half whose attention reads less KV; a single row goes to B when A
    has prompts to hide it behind.
    """
    first: list[int] = []
    second: list[int] = []
    balance = 1 if starts_with_b else 0  # KV tokens of A less those of B
    for row in rows:
        if balance > 0:
            second.append(row.id)
            balance -= row.computed + 1
        else:
            first.append(row.id)
            balance += row.computed + 1
    return tuple(first), tuple(second)
