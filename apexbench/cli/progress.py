"""Progress bars on stderr for a terminal; silent everywhere else."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from apexbench.compare.pool import Extent
from apexbench.compare.pool import Progress as OnProgress

_BYTES_PER_GIB = 1 << 30


class Bars:
    """One bar per phase of a comparison, in requests (bytes while something is loaded): it also
    moves within a single long run.

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
            done, total = extent.requests_done, extent.num_requests
            if extent.loaded is not None:
                done, total = extent.loaded.bytes_done, extent.loaded.num_bytes
            self._progress.update(task, completed=done, total=total, extent=in_words(extent))

        return move


def in_words(extent: Extent) -> str:
    """ "runs 3/12, requests 1,204/4,800, 81.5 tokens/s"; "1.2/13.5 GiB" while loading."""
    if extent.loaded is not None:
        loaded = extent.loaded
        done, total = (value / _BYTES_PER_GIB for value in (loaded.bytes_done, loaded.num_bytes))
        return f"{done:.1f}/{total:.1f} GiB"
    rate = "" if extent.tokens_per_s is None else f", {extent.tokens_per_s:.1f} tokens/s"
    return (
        f"runs {extent.runs_done}/{extent.num_runs},"
        f" requests {extent.requests_done:,}/{extent.num_requests:,}{rate}"
    )
