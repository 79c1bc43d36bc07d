import pytest

from apexbench.engine.cohorts import CohortBook
from apexbench.engine.plan import CohortAction
from apexbench.engine.sequence import Sequence
from apexbench.records import Request


def rows(*ids: int) -> tuple[Sequence, ...]:
    listed = tuple(Sequence(Request(i, 0, 10, 5), i) for i in ids)
    for row in listed:
        row.computed = 10
    return listed


@pytest.mark.parametrize(("num_layers", "steps"), [(1, 2), (32, 33)])
def test_a_token_takes_l_plus_one_steps(num_layers, steps) -> None:
    book = CohortBook()
    members = rows(1, 2)
    book.advance((book.enter(members),), num_layers)
    count = 1
    released: list[Sequence] = []
    while not released:
        [step] = book.steps(None, promote=False, max_missed_polls=2)
        assert step.layer == count - 1
        released = book.advance((step,), num_layers)
        count += 1
    assert count == steps == book.steps_since_entry
    assert released == list(members)
    assert (len(book), book.num_rows) == (0, 0)
    assert [row.cohort for row in members] == [None, None]


def test_entry_counts_what_attention_reads() -> None:
    book = CohortBook()
    step = book.enter(rows(4, 7))
    assert (step.action, step.rows, step.kv_tokens) == (CohortAction.ENTER, (4, 7), 22)
    assert (book.ids(), book.num_rows, book.steps_since_entry) == ((0,), 2, 0)


def test_polling_joins_who_has_arrived_and_waits_after_the_last_miss() -> None:
    book = CohortBook()
    book.enter(rows(1))
    book.enter(rows(2))

    def joined(*arrived: int) -> list[int]:
        return [step.cohort for step in book.steps(frozenset(arrived), False, 1)]

    assert joined(1) == [1]
    assert joined(1) == [0, 1]
    steps = book.steps(frozenset(), False, 1)
    book.advance(steps, 3)  # joined: the count of misses begins anew
    assert joined() == [1]


def test_freezing_ends_when_one_cohort_has_waited_long_enough() -> None:
    book = CohortBook()
    book.enter(rows(1))
    assert book.freeze(2)
    book.enter(rows(2))
    assert book.freeze(2)
    assert not book.freeze(2), "the older one has waited twice"
    book.advance(book.steps(None, promote=False, max_missed_polls=0), 3)
    assert book.freeze(2)


def test_promotion_samples_at_any_layer() -> None:
    book = CohortBook()
    members = rows(1)
    book.enter(members)
    [step] = book.steps(None, promote=True, max_missed_polls=0)
    assert book.advance((step,), 32) == list(members)
