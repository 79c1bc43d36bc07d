"""Which command is most useful after a comparison; only commands that exist."""

from collections import Counter
from typing import Any

from apexbench.compare.command_line import command, config_from
from apexbench.compare.matrix import BACKLOG
from apexbench.result import Result, Run, Setting

MANY_SEEDS = 8
LONGER = 4
OWN_TRAFFIC = "trace:YOUR_TRAFFIC.csv"
# Where a queue begins to form: between these the answer changes most.
FINE_RATES = ("0.7x", "0.8x", "0.9x", "1x", "1.1x")


def next_command(result: Result) -> str:
    """The same question asked better: the rest after an interrupt, all of it where the machine was
    too busy, longer runs where they were unsteady, more seeds where nothing was significant, then
    the user's own traffic.
    """
    is_doubtful = any(run.measured and not run.measured.is_trustworthy for run in result.runs)
    if result.is_partial or is_doubtful or not result.settings:
        return result.command
    settings = {setting.id: setting for setting in result.settings}
    unsteady = [
        run
        for run in result.runs
        if not run.window.is_steady and settings[run.setting].rate_rps is None
    ]
    if unsteady:
        return _longer(result, unsteady, settings)
    undecided = [c for c in result.comparisons if c.verdict == "no_significant_difference"]
    if undecided and len({run.seed for run in result.runs}) < MANY_SEEDS:
        return _again(result, settings[undecided[0].setting], seeds=MANY_SEEDS)
    setting = result.settings[0]
    if not setting.workload.startswith("trace:"):
        return _again(result, setting, workload=OWN_TRAFFIC)
    return _again(result, setting, rate=FINE_RATES)


def _longer(result: Result, unsteady: list[Run], settings: dict[str, Setting]) -> str:
    """The scenario that is unsteady most often, with more requests."""
    worst = settings[Counter(run.setting for run in unsteady).most_common(1)[0][0]]
    requests = worst.workload_summary.num_requests * LONGER
    return _again(result, worst, rate=("inf",), requests=requests)


def _again(result: Result, setting: Setting, **changes: Any) -> str:
    """What the user asked for, narrowed to one scenario, with `changes`."""
    config = config_from(result.config)
    asked = {"gpu": config.gpu, "model": config.model, "workload": config.workload}
    if not any(asked.values()):
        asked = {"gpu": setting.gpu, "model": setting.model, "workload": setting.workload}
    if BACKLOG.label not in changes.get("rate", config.rate):
        changes |= {"draws": 0, "tornado": False}  # they repeat the saturation run
    return command(config.model_copy(update=asked | changes))
