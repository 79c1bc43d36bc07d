from apexbench.engine.feeder import Feeder
from apexbench.records import Request, Workload


def workload(*arrivals: int, concurrency: int | None = None) -> Workload:
    requests = tuple(Request(i, at, 1, 1) for i, at in enumerate(arrivals))
    return Workload("w", requests, "", "", concurrency=concurrency)


def test_open_loop_follows_the_clock() -> None:
    feeder = Feeder(workload(5, 5, 9))
    assert feeder.due(4) == []
    assert feeder.next_arrival_ns() == 5
    assert [request.id for request in feeder.due(8)] == [0, 1]
    assert feeder.due(8) == []
    assert feeder.num_left == 1
    assert feeder.has_due(9)
    [last] = feeder.due(20)
    assert feeder.arrival_ns(last) == 9, "latency counts from the scheduled arrival"
    assert feeder.next_arrival_ns() is None
    assert not feeder.has_due(99)


def test_closed_loop_follows_completions() -> None:
    feeder = Feeder(workload(0, 0, 0, 0, concurrency=2))
    assert [request.id for request in feeder.due(3)] == [0, 1]
    assert not feeder.has_due(10**9)
    assert feeder.next_arrival_ns() is None
    feeder.on_end(1)
    [third] = feeder.due(7)
    assert (third.id, feeder.arrival_ns(third)) == (2, 7)
    assert [request.id for request in feeder.rest()] == [3]
