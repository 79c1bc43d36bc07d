"""`make grid`: runs the whole grid and writes its page. `python -m tests.grid.run --help`."""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from apexbench.compare.pool import CellRunner, default_jobs
from apexbench.files import write_text_atomic
from tests.grid.cells import (
    DRAW_RIVALS,
    GPUS,
    LEAST,
    LEAST_OF_BASELINE,
    LOADS,
    WORKLOADS,
    Score,
    Size,
    scores,
)
from tests.grid.known import KNOWN_MISSES

FULL = Size(backlog=600, online=400, seeds=2, draws=16)

_HEAD = f"""# The planner against every other policy

Made by `make grid`; simulated, nothing here ran on a GPU. Two GPUs with the models and hosts that
`compare` takes by default, four workloads, three loads: all requests waiting (saturation), and 0.8
and 1.0 times gpu-only's saturation. At saturation the measure is output throughput and a rival must
keep the workload's TPOT target at p90, as the planner is asked to; at a rate it is goodput, which
has both targets in it. `livebench` has approximated lengths.

A cell is won at {LEAST} of the best other policy and {LEAST_OF_BASELINE} of gpu-only or more.
Rivals run with their defaults. gpu-only with smaller prompt portions
(`gpu-only+chunk256`) would be a stronger one on the A10; the planner chooses its
portions, and part of its lead is that. A quarter of the requests does not fill the KV pool of an
A10 more than about once: draws at saturation there say more about filling it than about serving.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all cells are won but for the known misses, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/planner-grid.md"))
    parser.add_argument("--jobs", type=int, default=default_jobs())
    parser.add_argument("--backlog", type=int, default=FULL.backlog, help="requests waiting")
    parser.add_argument("--online", type=int, default=FULL.online, help="requests at a rate")
    parser.add_argument("--seeds", type=int, default=FULL.seeds)
    parser.add_argument("--draws", type=int, default=FULL.draws)
    options = parser.parse_args(arguments)
    size = Size(options.backlog, options.online, options.seeds, options.draws)
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
    print(f"wrote {options.out}; {len(missed)} cells missed that are not known to be")
    return bool(missed)


def unexpected(found: Iterable[Score]) -> list[str]:
    """Cells on the profiles' own devices that are lost and not known to be."""
    lost = (score for score in found if score.place.draw is None and not score.is_won)
    return [
        f"{_name(score)}: {score.of_best:.3f} of {score.best_rival},"
        f" {score.of_baseline:.3f} of gpu-only"
        for score in lost
        if (score.place.gpu, score.place.workload, score.place.load) not in KNOWN_MISSES
    ]


def page(found: Sequence[Score], size: Size) -> str:
    """The committed table."""
    return "\n".join([_HEAD, _size_line(size), "", *_table(found), "", *_summary(found), ""])


def _size_line(size: Size) -> str:
    return (
        f"{size.backlog} requests at saturation, {size.online} at a rate, {size.seeds} seeds on the"
        f" profiles' devices; {size.draws} draws of the true devices with one seed and"
        f" {size.share_of_draw:.0%} of the requests, the policies going on to believe the profiles;"
        f" rivals there are {', '.join(DRAW_RIVALS)}."
    )


def _table(found: Sequence[Score]) -> list[str]:
    draws: dict[str, list[Score]] = defaultdict(list)
    for score in found:
        if score.place.draw is not None:
            draws[_name(score)].append(score)
    lines = [
        "| cell | planner | gpu-only | best other | planner / best | planner / gpu-only |"
        " TPOT p90, target | draws: median, lowest, won | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(s, draws[_name(s)]) for s in found if s.place.draw is None]
    return lines


def _row(score: Score, draws: Sequence[Score]) -> str:
    place = score.place
    unit = "tok/s" if place.load == "inf" else "req/s"
    ratios = [draw.of_best for draw in draws]
    robust = (
        f"{median(ratios):.2f}, {min(ratios):.2f}, {sum(d.is_won for d in draws)}/{len(draws)}"
        if ratios
        else "-"
    )
    tpot = "-" if score.tpot_p90_s is None else f"{score.tpot_p90_s:.3g} s"
    mark = "won" if score.is_won else "**missed**"
    known = KNOWN_MISSES.get((place.gpu, place.workload, place.load))
    notes = [mark, *([] if score.is_steady else ["not steady"]), *([known] if known else [])]
    return (
        f"| {_name(score)} | {score.ours:.4g} {unit} | {score.baseline:.4g} |"
        f" {score.best_rival} {score.best:.4g} | {score.of_best:.3f} | {score.of_baseline:.3f} |"
        f" {tpot}, {score.tpot_target_s:g} s | {robust} | {'; '.join(notes)} |"
    )


def _summary(found: Sequence[Score]) -> list[str]:
    base = [score for score in found if score.place.draw is None]
    drawn = [score for score in found if score.place.draw is not None]
    cells = len(GPUS) * len(WORKLOADS) * len(LOADS)
    lines = [f"Won on the profiles' devices: {sum(s.is_won for s in base)} of {cells} cells."]
    if drawn:
        lines.append(f"Won under draws: {sum(s.is_won for s in drawn)} of {len(drawn)} cells.")
    return lines


def _name(score: Score) -> str:
    place = score.place
    load = "saturation" if place.load == "inf" else place.load
    return f"{place.gpu} {place.workload} {load}"


def _tell(score: Score, seconds: float) -> None:
    draw = "profiles" if score.place.draw is None else f"draw {score.place.draw}"
    print(
        f"{seconds:6.0f} s  {_name(score):32} {draw:9} {score.of_best:7.3f} of {score.best_rival}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
