"""Who is served first."""

from dataclasses import dataclass

from apexbench.engine.policies.urgency import ServingOrder, serving_order, with_deferrable

MS = 1_000_000
TARGET_NS, STEP_NS = 100 * MS, 50 * MS


@dataclass(frozen=True, slots=True)
class Row:
    id: int
    generated: int
    first_token_ns: int = 0
    computed: int = 100


def order(*rows: Row, now_ms: int = 1000, target: float | None = TARGET_NS) -> ServingOrder:
    return serving_order(
        rows,
        now_ns=now_ms * MS,
        target_ns=target,
        step_ns=STEP_NS,
        expected_output=40.0,
    )


def ids(found: ServingOrder) -> list[int]:
    return [row.id for row in found.rows]


def test_the_slowest_so_far_is_first() -> None:
    found = order(Row(0, 20), Row(1, 11), Row(2, 15))
    assert ids(found) == [1, 2, 0]
    assert found.num_late == 0


def test_who_cannot_keep_the_target_is_last() -> None:
    # 1 token in a second, at most 39 more: even 50 ms each is (1 + 1.95) / 40 = 74 ms: in time.
    # After 5 seconds it is (5 + 1.95) / 40 = 174 ms: too late.
    assert order(Row(0, 1), Row(1, 20)).num_late == 0
    found = order(Row(0, 1), Row(1, 60), now_ms=5000)
    assert (ids(found), found.num_late) == ([1, 0], 1)


def test_who_outlived_the_expectation_has_a_rest_left() -> None:
    # 45 tokens in 5 s are 111 ms each; ten more at 50 ms bring that to exactly 100 ms.
    assert order(Row(0, 45), now_ms=5000).num_late == 0
    assert order(Row(0, 44), now_ms=5000).num_late == 1


def test_without_a_target_rows_stay_as_they_came() -> None:
    found = order(Row(0, 20), Row(1, 1), target=None)
    assert (ids(found), found.num_late) == ([0, 1], 0)


def test_a_stalled_row_becomes_the_first_to_be_deferred() -> None:
    rows = (Row(0, 20), Row(1, 11), Row(2, 15))
    found = with_deferrable(order(*rows), rows[1])
    assert (ids(found), found.num_late) == ([2, 0, 1], 1)
    again = with_deferrable(found, rows[1])
    assert (ids(again), again.num_late) == ([2, 0, 1], 1)
