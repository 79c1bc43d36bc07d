"""How far a profile run has come, whether it shall stop, and whether there is time for more."""

from collections.abc import Callable
from dataclasses import dataclass

from apexbench.engine.clock import WallClock
from apexbench.records import NS_PER_S

OnProgress = Callable[[float, str], None]  # (share of the whole, what is measured)


@dataclass(frozen=True, slots=True)
class Watchers:
    """`check` raises KeyboardInterrupt when somebody wants the run to end; `tell` shows it."""

    check: Callable[[], None] = lambda: None
    tell: OnProgress = lambda _share, _what: None


class Pace:
    """The clock and the budget of one run, in `total` steps of about the same length."""

    def __init__(self, budget_s: float, watchers: Watchers, total: int) -> None:
        self._clock = WallClock()
        self._budget_s = budget_s
        self._watchers = watchers
        self._total = total
        self._done = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self._clock.now_ns() / NS_PER_S

    @property
    def has_time(self) -> bool:
        """Whether another group of measurements may begin."""
        return self.elapsed_s < self._budget_s

    def check(self) -> None:
        """To be called where nothing is half done."""
        self._watchers.check()

    def step(self, what: str) -> None:
        """The next step begins."""
        self.check()
        self._watchers.tell(min(1.0, self._done / self._total), what)
        self._done += 1
