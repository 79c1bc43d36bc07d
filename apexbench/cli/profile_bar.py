"""The progress bar of `apexbench profile`; silent where nobody watches."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class ProfileBar:
    """One bar for the whole run. Use as a context manager."""

    def __init__(self, console: Console, *, is_shown: bool) -> None:
        self._progress = Progress(
            TextColumn("measuring"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[what]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not is_shown,
            # Redrawing takes CPU time from what is measured.
            refresh_per_second=2,
        )
        self._task = self._progress.add_task("", total=1.0, what="")

    def __enter__(self) -> "ProfileBar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def move(self, share: float, what: str) -> None:
        """So much of the whole is done; `what` comes next."""
        self._progress.update(self._task, completed=share, what=what)
