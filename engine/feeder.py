"""Hands requests to the engine when they arrive: by the clock, or closed loop by completions."""

from apexbench.records import Request, Workload


class Feeder:
    """Requests of a workload in arrival order; `arrival_ns()` is when each was due."""

    def __init__(self, workload: Workload) -> None:
        self._requests = workload.requests
        self._next = 0
        self._concurrency = workload.concurrency
        self._in_flight = 0
        self._arrivals: dict[int, int] = {}

    def due(self, now_ns: int) -> list[Request]:
        """Requests that have arrived by now and were not handed out before."""
        arrived = []
        while self.has_due(now_ns):
            request = self._requests[self._next]
            self._next += 1
            self._in_flight += 1
            if self._concurrency is not None:
                self._arrivals[request.id] = now_ns
            arrived.append(request)
        return arrived

    def has_due(self, now_ns: int) -> bool:
        """True when `due` would hand out a request now."""
        if self._next >= len(self._requests):
            return False
        if self._concurrency is not None:
            return self._in_flight < self._concurrency
        return self._requests[self._next].arrival_ns <= now_ns

    def on_end(self, request_id: int) -> None:
        """A request has left the engine; in a closed loop that lets the next one in."""
        self._in_flight -= 1
        self._arrivals.pop(request_id, None)

    def arrival_ns(self, request: Request) -> int:
        """The scheduled arrival, from which latency counts."""
        return self._arrivals.get(request.id, request.arrival_ns)

    def next_arrival_ns(self) -> int | None:
        """When the next request is due by the clock; None when nothing is left to wait for."""
        if self._next >= len(self._requests) or self._concurrency is not None:
            return None
        return self._requests[self._next].arrival_ns

    @property
    def num_left(self) -> int:
        """Requests not yet handed out."""
        return len(self._requests) - self._next

    def rest(self) -> tuple[Request, ...]:
        """Requests that were never handed out."""
        return self._requests[self._next :]
