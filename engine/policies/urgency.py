"""In which order CPU rows are served so that as many as possible keep the TPOT target."""

from collections.abc import Sequence
from typing import NamedTuple

from apexbench.engine.policies.base import Row

# Of an expected output, what a row that has outlived the expectation is taken to have left.
_RESIDUAL_SHARE = 0.25


class ServingOrder(NamedTuple):
    """Rows in the order in which to serve them; the last `num_late` cannot keep the target."""

    rows: Sequence[Row]
    num_late: int


def serving_order(
    rows: Sequence[Row],
    *,
    now_ns: int,
    target_ns: float | None,
    step_ns: float,
    expected_output: float,
) -> ServingOrder:
    """The slowest so far first, since all get one token per step; behind them who is too late.

    A row is late when even a token per step from now on, over what it can be expected to have
    left, would miss the target. Without a target: as they came.
    """
    if target_ns is None or not rows:
        return ServingOrder(rows, 0)
    in_time: list[tuple[float, Row]] = []
    late: list[tuple[float, Row]] = []
    for row in rows:
        age_ns, tokens = now_ns - row.first_token_ns, row.generated
        left = max(expected_output - tokens, _RESIDUAL_SHARE * expected_output)
        is_late = age_ns + left * step_ns > target_ns * (tokens + left)
        (late if is_late else in_time).append((age_ns / tokens, row))
    in_time.sort(key=_slowness, reverse=True)
    late.sort(key=_slowness, reverse=True)
    return ServingOrder([row for _, row in (*in_time, *late)], len(late))


def with_deferrable(order: ServingOrder, row: Row) -> ServingOrder:
    """The same with `row` last, among those that may be deferred."""
    others = [other for other in order.rows if other is not row]
    is_late = any(other is row for other in order.rows[len(order.rows) - order.num_late :])
    return ServingOrder([*others, row], order.num_late + (not is_late))


def _slowness(entry: tuple[float, Row]) -> float:
    return entry[0]
