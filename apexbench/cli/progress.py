"""Progress bars on stderr for a terminal; silent everywhere else."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from apexbench.compare.pool import Extent
from apexbench.compare.pool import Progress as OnProgress


class Bars:
    """One bar per phase of a comparison, in requests: it also moves within a single long run.

    Use as a context manager.
    """

    def __init__(self, console: Console, *, is_shown: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[extent]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not is_shown,
        )

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def phase(self, name: str) -> OnProgress:
        """A new bar; returns the function that moves it."""
        task = self._progress.add_task(name, total=None, extent="")

        def move(extent: Extent) -> None:
            self._progress.update(
                task,
                completed=extent.requests_done,
                total=extent.num_requests,
                extent=in_words(extent),
            )

        return move


def in_words(extent: Extent) -> str:
    """ "runs 3/12, requests 1,204/4,800"."""
    return (
        f"runs {extent.runs_done}/{extent.num_runs},"
        f" requests {extent.requests_done:,}/{extent.num_requests:,}"
    )
