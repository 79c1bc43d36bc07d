"""The candidate plans of a step: how many CPU rows each strategy would take. Rates none of them."""

from collections.abc import Iterator
from typing import NamedTuple

from apexbench.engine.policies.forecast import Forecast, Ground, Placed

# Rounds in which batch sizes and the costs that depend on them settle.
_ROUNDS = 3
_ANY_NUMBER = 1 << 20


class Option(NamedTuple):
    """A candidate plan; `label` says what carries its in-layer rows, and how many those are."""

    label: str
    placed: Placed


def options(ground: Ground, forecast: Forecast, entering: int, max_rows: int) -> Iterator[Option]:
    """At most twelve: nothing new on the CPU, and every strategy with and without the cohort of
    `entering` rows that is due. `max_rows` limits in-layer rows.
    """
    yield Option("gpu_only", Placed())
    if ground.num_cohorts:
        yield Option("gpu_only, cohorts frozen", Placed(joins=False))
    rows = len(ground.kv_tokens) - 1
    yield from _in_layer(ground, forecast, min(rows, max_rows), 0)
    if entering:
        yield Option("deferred", Placed(entering=entering))
        yield from _in_layer(ground, forecast, min(rows - entering, max_rows), entering)


def _in_layer(ground: Ground, forecast: Forecast, rows: int, entering: int) -> Iterator[Option]:
    """Rows that are hidden, and all of them; in one batch also the middle between."""
    if rows <= 0:
        return
    hidden = min(rows, max(1, hidden_in_one(ground, forecast)))
    yield Option("in_layer", Placed(hidden, 0, entering))
    if hidden < rows:
        yield Option("in_layer, half", Placed((hidden + rows) // 2, 0, entering))
        yield Option("in_layer, all", Placed(rows, 0, entering))
    in_a, in_b = hidden_in_two(ground, forecast, rows)
    yield Option("two_batch", Placed(in_a, in_b, entering))
    if in_a + in_b < rows:
        yield Option("two_batch, all", Placed(*_balanced(ground, forecast, rows), entering))


def hidden_in_one(ground: Ground, forecast: Forecast) -> int:
    """In-layer rows of one batch that GPU attention hides: n t + lat <= T_att."""
    return max(0, int((ground.attention_ns - forecast.link[1]) / ground.row_ns))


def hidden_in_two(ground: Ground, forecast: Forecast, rows: int = _ANY_NUMBER) -> tuple[int, int]:
    """In-layer rows of A and B that nobody waits for, of at most `rows`; B has at least one.

    A's hide behind T_att and B's linear work, B's behind A's; both beside the cohorts' work.
    """
    linear, link, attention = forecast.linear, forecast.link, ground.attention_ns
    cohorts_ns = ground.deferred_rows * ground.row_ns / forecast.num_layers
    in_a, in_b = 0, 1
    for _ in range(_ROUNDS):
        first, second = linear[max(1, ground.base_rows + in_a)], linear[in_b]
        total = max(1, int((first + attention + second - cohorts_ns) / ground.row_ns))
        most_a = int((attention + second - link[max(1, in_a)]) / ground.row_ns)
        most_b = int((first + attention - link[in_b]) / ground.row_ns)
        wanted = min(rows, total)
        in_b = max(1, min(wanted, most_b))
        in_a = max(0, min(wanted - in_b, most_a))
    return in_a, in_b


def _balanced(ground: Ground, forecast: Forecast, rows: int) -> tuple[int, int]:
    """All rows, shared out in proportion to what hides them."""
    first = forecast.linear[max(1, ground.base_rows)] + ground.attention_ns
    second = forecast.linear[max(1, rows // 2)] + ground.attention_ns
    in_a = min(rows - 1, int(rows * second / (first + second)))
    return in_a, rows - in_a
