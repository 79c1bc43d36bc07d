"""The page of the grid: a table of all cells, the known misses, and how gpu-only compares."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from tests.grid.cells import (
    DRAW_RIVALS,
    LEAST,
    LEAST_OF_BASELINE,
    SATURATION,
    Score,
    Size,
)
from tests.grid.known import KNOWN_DRAWS, KNOWN_MISSES, Known

_HEAD = f"""# The planner against every other policy

Made by `make grid`; simulated, nothing here ran on a GPU. Two GPUs with the models and hosts that
`compare` takes by default, four workloads, three loads: all requests waiting (saturation), and 0.8
and 1.0 times gpu-only's saturation. At saturation the measure is output throughput and a rival must
keep the workload's TPOT target at p90, as the planner is asked to; at a rate it is goodput, which
has both targets in it. gpu-only is a rival everywhere, whether it keeps the target or not.
`livebench` has approximated lengths.

A cell is won at {LEAST} of the best other policy and {LEAST_OF_BASELINE} of gpu-only or more.
Rivals run with their defaults. gpu-only with smaller prompt portions
(`gpu-only+chunk256`) would be a stronger one on the A10; the planner chooses its
portions, and part of its lead is that.
"""


def page(found: Sequence[Score], size: Size) -> str:
    """The committed page."""
    parts = [_HEAD, _size_line(size), "", *_table(found), "", *_summary(found)]
    return "\n".join([*parts, *_known(found), *_of_baseline(found), ""])


def by_cell(found: Sequence[Score]) -> Mapping[tuple[str, str, str], list[Score]]:
    """Scores of the same cell."""
    cells: dict[tuple[str, str, str], list[Score]] = defaultdict(list)
    for score in found:
        cells[score.place.cell].append(score)
    return cells


def split(found: Sequence[Score]) -> tuple[list[Score], list[Score]]:
    """On the profiles' devices, and under draws."""
    base = [score for score in found if score.place.draw is None]
    return base, [score for score in found if score.place.draw is not None]


def _size_line(size: Size) -> str:
    usual = max(size.backlog.values())
    fewer = [f"{' '.join(pair)} {n}" for pair, n in size.backlog.items() if n < usual]
    exceptions = f" ({', '.join(fewer)})" if fewer else ""
    return (
        f"Requests: {usual} at saturation{exceptions}, {size.online}"
        f" at a rate; {size.seeds} seeds on the profiles' devices. {len(size.draws)} draws of the"
        f" true devices with one seed and {size.share_of_backlog:.0%} of the requests at"
        f" saturation, the policies going on to believe the profiles; rivals there are"
        f" {', '.join(DRAW_RIVALS)}."
    )


def _table(found: Sequence[Score]) -> list[str]:
    base, drawn = split(found)
    draws = by_cell(drawn)
    lines = [
        "| cell | planner | gpu-only | best other | planner / best | planner / gpu-only |"
        " TPOT p90, target | draws: median, lowest, won | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_row(score, draws.get(score.place.cell, [])) for score in base]


def _row(score: Score, draws: Sequence[Score]) -> str:
    unit = "tok/s" if score.place.load == SATURATION else "req/s"
    ratios = [draw.of_best for draw in draws]
    num_won = len(draws) - _num_lost(draws)
    robust = f"{median(ratios):.2f}, {min(ratios):.2f}, {num_won}/{len(draws)}" if ratios else "-"
    tpot = "-" if score.tpot_p90_s is None else f"{score.tpot_p90_s:.3g} s"
    mark = "won" if score.is_won else "**missed**"
    notes = [mark, *([] if score.is_steady else ["not steady"])]
    return (
        f"| {score.place} | {score.ours:.4g} {unit} | {score.baseline:.4g} |"
        f" {score.best_rival} {score.best:.4g} | {score.of_best:.3f} | {score.of_baseline:.3f} |"
        f" {tpot}, {score.tpot_target_s:g} s | {robust} | {'; '.join(notes)} |"
    )


def _summary(found: Sequence[Score]) -> list[str]:
    base, drawn = split(found)
    lines = [f"Won on the profiles' devices: {len(base) - _num_lost(base)} of {len(base)} cells."]
    if drawn:
        lines.append(f"Won under draws: {len(drawn) - _num_lost(drawn)} of {len(drawn)} cells.")
    return lines


def _known(found: Sequence[Score]) -> list[str]:
    """What is missed, cell by cell, and why."""
    base, drawn = split(found)
    lines = ["", "## Known misses", "", "`make grid` fails on others, on more and on lower ones."]
    lines += ["", "| cell | missed | lowest | known: most, lowest | why |", "|---|---|---|---|---|"]
    lines += [_lost(scores, KNOWN_MISSES) for scores in by_cell(base).values() if _num_lost(scores)]
    return lines + [
        _lost(scores, KNOWN_DRAWS) for scores in by_cell(drawn).values() if _num_lost(scores)
    ]


def _lost(scores: Sequence[Score], known: Mapping[tuple[str, str, str], Known]) -> str:
    place, lowest = scores[0].place, min(score.of_best for score in scores)
    found = known.get(place.cell)
    bound = f"{found.most}, {found.lowest:.3f} | {found.why}" if found else "- | **unknown**"
    where = "profiles" if place.draw is None else f"{_num_lost(scores)} of {len(scores)} draws"
    return f"| {place} | {where} | {lowest:.3f} | {bound} |"


def _num_lost(scores: Sequence[Score]) -> int:
    return sum(not score.is_won for score in scores)


def _of_baseline(found: Sequence[Score]) -> list[str]:
    """Whether the planner is ever below gpu-only."""
    base, drawn = split(found)
    lines = ["", "## Against gpu-only alone", "", _below(base, "On the profiles' devices")]
    if drawn:
        lines += [_below(drawn, "Under draws")]
    return lines


def _below(scores: Sequence[Score], where: str) -> str:
    below = [s for s in scores if s.of_baseline < LEAST_OF_BASELINE]
    lowest = min(scores, key=lambda score: score.of_baseline)
    names = ", ".join(dict.fromkeys(str(s.place) for s in below))
    return (
        f"{where}: below {LEAST_OF_BASELINE} of gpu-only in {len(below)} of {len(scores)}"
        f"{f' ({names})' if below else ''}; lowest {lowest.of_baseline:.3f}, {lowest.place}."
    )
