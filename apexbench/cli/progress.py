"""Progress bars on stderr for a terminal; silent everywhere else."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from apexbench.compare.pool import Progress as OnProgress


class Bars:
    """One bar per phase of a comparison. Use as a context manager."""

    def __init__(self, console: Console, *, is_shown: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TextColumn("{task.fields[inside]}"),
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
        task = self._progress.add_task(name, total=None, inside="")

        def move(done: int, total: int, requests: int) -> None:
            inside = f"(+{requests} requests)" if requests else ""
            self._progress.update(task, completed=done, total=total, inside=inside)

        return move
