import threading
from typing import NamedTuple

from apexbench.engine.executors.emulated.int_log import IntLog


class Pair(NamedTuple):
    first: int
    second: int


def test_rows_are_read_by_name_in_the_order_they_came() -> None:
    log = IntLog(Pair)
    log.add(Pair(1, -2))
    log.add(Pair(1 << 60, 4))
    found = log.rows()
    assert found["first"].tolist() == [1, 1 << 60]
    assert found["second"].tolist() == [-2, 4]


def test_an_empty_log_has_its_names() -> None:
    assert IntLog(Pair).rows().dtype.names == ("first", "second")
    assert not len(IntLog(Pair).rows())


def test_the_log_keeps_the_first_rows_and_counts_all() -> None:
    log = IntLog(Pair, max_rows=2)
    for number in range(5):
        log.add(Pair(number, 0))
    assert log.rows()["first"].tolist() == [0, 1]
    assert log.num_rows == 5


def test_rows_of_several_threads_stay_whole() -> None:
    log = IntLog(Pair)

    def add(number: int) -> None:
        for _ in range(500):
            log.add(Pair(number, -number))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = log.rows()
    assert len(found) == 2000
    assert (found["first"] == -found["second"]).all()
