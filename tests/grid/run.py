"""`make grid`: runs the whole grid and writes its page. `python -m tests.grid.run --help`."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from apexbench.compare.pool import CellRunner, default_jobs
from apexbench.compare.scenarios import BACKLOG_REQUESTS
from apexbench.files import write_text_atomic
from tests.grid.cells import GPUS, LEAST, WORKLOADS, Score, Size, scores
from tests.grid.known import KNOWN_DRAWS, KNOWN_MISSES, Known
from tests.grid.page import by_cell, page, split

# What `compare` takes by default; of these two a T4's runs would take half a minute each.
BACKLOG = dict.fromkeys(product(GPUS, WORKLOADS), BACKLOG_REQUESTS)
BACKLOG |= {("t4", "azure-conv"): 600, ("t4", "livebench"): 600}
FULL = Size(BACKLOG, online=400, seeds=2, draws=range(16))
_NONE_KNOWN = Known(0, LEAST, "")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all is won but for the known misses, 1 otherwise."""
    options = _parser().parse_args(arguments)
    size = replace(FULL.scaled(options.share), seeds=options.seeds, draws=range(options.draws))
    found: list[Score] = []
    started = time.monotonic()
    with CellRunner(options.jobs, lambda _: None) as runner:
        for score in scores(size, runner):
            found.append(score)
            _tell(score, time.monotonic() - started)
    write_text_atomic(options.out, page(found, size))
    missed = unexpected(found)
    for line in missed:
        print(f"missed: {line}")
    print(f"wrote {options.out}; {len(missed)} misses that are not known")
    return bool(missed)


def unexpected(found: Sequence[Score]) -> list[str]:
    """What is lost and not known to be, on the profiles' own devices and under draws."""
    base, drawn = split(found)
    return [*_unknown(base, KNOWN_MISSES), *_unknown(drawn, KNOWN_DRAWS)]


def _unknown(found: Sequence[Score], known: Mapping[tuple[str, str, str], Known]) -> Iterator[str]:
    """All of a cell that is missed more often than known, else what is lower than known."""
    for cell, scores_of_cell in by_cell(found).items():
        most, lowest, _ = known.get(cell, _NONE_KNOWN)
        lost = [score for score in scores_of_cell if not score.is_won]
        for score in lost:
            if len(lost) > most or score.of_best < lowest:
                yield (
                    f"{score.place} {_devices(score)}: {score.of_best:.3f} of {score.best_rival},"
                    f" {score.of_baseline:.3f} of gpu-only; {most} known, from {lowest}"
                )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/planner-grid.md"))
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--share", type=float, default=1.0, help="of the requests")
    parser.add_argument("--seeds", type=int, default=FULL.seeds)
    parser.add_argument("--draws", type=int, default=len(FULL.draws))
    return parser


def _tell(score: Score, seconds: float) -> None:
    print(
        f"{seconds:6.0f} s  {score.place!s:32} {_devices(score):9}"
        f" {score.of_best:7.3f} of {score.best_rival}",
        file=sys.stderr,
        flush=True,
    )


def _devices(score: Score) -> str:
    return "profiles" if score.place.draw is None else f"draw {score.place.draw}"


if __name__ == "__main__":
    sys.exit(main())
