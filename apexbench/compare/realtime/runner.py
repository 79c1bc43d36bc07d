"""Runs cells on real lanes: one at a time, in this process, variants in turn for every seed."""

from collections.abc import Callable, Sequence
from functools import partial

from apexbench.compare.cells import Backend, Cell
from apexbench.compare.pool import Batch, Extent, Loaded, Progress
from apexbench.compare.realtime.bench import Bench
from apexbench.compare.realtime.run import Tick, Watching, run_real_cell
from apexbench.compare.realtime.trust import MachineWatch, Watch
from apexbench.compare.worker import attempt, settle_heap


class RealTimeRunner:
    """What a CellRunner is for simulated cells. As a context manager it loads the bench first.

    A progress report that raises KeyboardInterrupt ends the run at hand between two of its steps;
    what had ended before is in the batch.
    """

    def __init__(
        self,
        bench: Bench,
        backend: Backend,
        phase: Callable[[str], Progress],
        watch: Callable[[], Watch] = MachineWatch,
    ) -> None:
        self._bench = bench
        self._backend = backend
        self._phase = phase
        self._watch = watch
        self.on_progress: Progress = lambda _: None

    def __enter__(self) -> "RealTimeRunner":
        report = self._phase("loading")
        self._bench.load(lambda done, total: report(Extent(loaded=Loaded(done, total))))
        settle_heap()
        self.on_progress = self._phase("saturation")
        return self

    def __exit__(self, *_: object) -> None:
        """Lanes close with their run; nothing is left."""

    def run(self, batch: Batch) -> None:
        """Run all cells of `batch` and put into it what comes of them."""
        self.on_progress(batch.extent(0))
        for index in in_turn(batch.cells):
            watching = Watching(partial(self._report, batch), self._watch)
            run = partial(run_real_cell, batch.cells[index], self._bench, self._backend, watching)
            batch.keep(index, attempt(run))
            self.on_progress(batch.extent(0))

    def _report(self, batch: Batch, tick: Tick) -> None:
        self.on_progress(batch.extent(tick.completed, tick.tokens_per_s))


def in_turn(cells: Sequence[Cell]) -> list[int]:
    """ABAB instead of AABB: what drifts on the machine meets all variants of a seed alike."""
    settings = list(dict.fromkeys(cell.setting for cell in cells))
    return sorted(
        range(len(cells)), key=lambda i: (settings.index(cells[i].setting), cells[i].seed)
    )
