"""Whether runs in real time may be believed, and what is said where they may not."""

from apexbench.reports.outcome import Outcome, Scenario
from apexbench.result import Result, Run

WITHHELD = "Withheld: the machine was too busy"
_ALARM = "NOT FOR PUBLICATION"


def distrusted(result: Result) -> tuple[Run, ...]:
    """Runs during which something else disturbed the machine."""
    return tuple(run for run in result.runs if run.measured and not run.measured.is_trustworthy)


def alarm(result: Result) -> str:
    """What stands above everything else; empty where nothing is wrong."""
    runs = distrusted(result)
    if not runs:
        return ""
    return (
        f"{_ALARM}: in {len(runs)} of {len(result.runs)} runs the machine was too busy to be"
        f" trusted ({reason_of(runs[0])}); verdicts that rest on them are withheld. Stop what else"
        " runs here (apexbench doctor says what it sees) and repeat the comparison."
    )


def reason_of(run: Run) -> str:
    """Why a run is not trusted, with its name."""
    assert run.measured is not None
    return f"{run.variant} with seed {run.seed}, for example: {run.measured.distrust}"


def withheld(outcome: Outcome, scenario: Scenario) -> str | None:
    """Why nothing is concluded about a scenario, as a sentence; None where all runs are trusted."""
    own = {setting.id for setting in scenario.settings}
    runs = [run for run in distrusted(outcome.result) if run.setting in own]
    if not runs:
        return None
    return (
        f"The verdict is withheld, because the machine was too busy in {len(runs)} of the runs:"
        f" {reason_of(runs[0])}."
    )
