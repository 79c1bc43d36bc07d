"""A measured host as tables on a terminal; computes nothing."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from apexbench.engine.executors.profiling.measurements import Timing
from apexbench.engine.profile_files import Constant
from apexbench.profiling.profile import CurveOfHost, ProfiledHost

US_PER_S, GB = 1e6, 1e9
_CALLS = {
    "inline": "least job, computed inline",
    "C": "submit and join from C",
    "Python": "submit and join from Python",
}


def print_profile(host: ProfiledHost, console: Console) -> None:
    """What was measured, in the order of what decides most."""
    console.print(host.title, style="bold", markup=False)
    _show(console, ("constant", "value", "±", ""), map(_constant_row, host.constants.items()))
    headings = ("CPU attention", "threads", "GB/s", "±", "us/row", "us/job", "model", "seen",
                "unseen")  # fmt: skip
    _show(console, headings, map(_curve_row, host.curves))
    _show(console, ("beside them", "median", "spread"), _others(host))
    console.print(
        "seen, unseen: median error over jobs that the model was fitted to, and over others.",
        style="dim",
        soft_wrap=True,
    )


def _show(console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()


def _constant_row(item: tuple[str, Constant]) -> tuple[str, ...]:
    name, constant = item
    return name, f"{constant.value:g} {constant.unit}", f"{constant.sigma:.0%}", constant.kind


def _curve_row(curve: CurveOfHost) -> tuple[str, ...]:
    group = "MHA" if curve.gqa_group == 1 else f"GQA {curve.gqa_group}"
    found = (curve.errors.seen, curve.errors.held_out)
    seen, unseen = ("" if errors is None else f"{errors.median:.1%}" for errors in found)
    return (
        f"{curve.dtype} {group}",
        str(curve.threads),
        f"{curve.gb_per_s.value:.1f}",
        f"{curve.gb_per_s.sigma:.0%}",
        f"{curve.row_us.value:.1f}",
        f"{curve.dispatch_us.value:.1f}",
        "interpolated" if curve.is_corrected else "line",
        seen,
        unseen,
    )


def _others(host: ProfiledHost) -> Iterable[tuple[str, ...]]:
    """Copies, hand-overs and waits."""
    for copy in host.measured.copies:
        rate = copy.num_bytes / copy.timing.seconds / GB
        words = (copy.kind, copy.direction or copy.dtype, f"{copy.num_bytes >> 10} KiB")
        yield " ".join(words), f"{rate:.2f} GB/s", f"{copy.timing.spread:.0%}"
    for handover in host.measured.handovers:
        workers = f"{handover.threads} {handover.workers}" if handover.threads else "no"
        yield (
            f"{_CALLS.get(handover.caller, handover.caller)}, {workers} workers",
            *_micros(handover.timing),
        )
    for wait in host.measured.waits:
        asked = f" of {wait.asked_s * US_PER_S:g} us ends late by" if wait.asked_s else " wakes in"
        yield f"{wait.kind}{asked}", *_micros(wait.late)


def _micros(timing: Timing) -> tuple[str, str]:
    return f"{timing.seconds * US_PER_S:.1f} us", f"{timing.spread:.0%}"
