"""One CSV text per table of `apexbench.load`, for spreadsheets; all but the requests."""

from typing import TYPE_CHECKING

from apexbench.result import Result, frames

if TYPE_CHECKING:
    import pandas as pd


def tables(result: Result) -> dict[str, str]:
    """File name -> CSV text; a table without rows is an empty text."""
    found = frames(result)
    return {
        "runs.csv": _csv(found.runs),
        "comparisons.csv": _csv(found.comparisons),
        "sweeps.csv": _csv(found.sweeps),
        "sensitivities.csv": _csv(found.sensitivities),
    }


def _csv(frame: "pd.DataFrame") -> str:
    return "" if frame.empty else str(frame.to_csv(index=False, lineterminator="\n"))
