"""Which command is most useful after a comparison; only commands that exist."""

import shlex

from apexbench.result import Result, Run, Setting

MANY_SEEDS = 8
LONGER = 4


def next_command(result: Result) -> str:
    """A command line: longer runs where they were unsteady, more seeds where nothing was
    significant, otherwise the user's own traffic.
    """
    settings = {setting.id: setting for setting in result.settings}
    unsteady = [
        run
        for run in result.runs
        if not run.window.is_steady and settings[run.setting].rate_label == "inf"
    ]
    if unsteady:
        return _longer(unsteady, settings)
    undecided = [c for c in result.comparisons if c.verdict == "no_significant_difference"]
    seeds = len({run.seed for run in result.runs})
    if undecided and seeds < MANY_SEEDS:
        return f"{_base(settings[undecided[0].setting])} --seeds {MANY_SEEDS}"
    if result.settings:
        return f"{_base(result.settings[0], 'trace:YOUR_TRAFFIC.csv')}"
    return "apexbench doctor"


def _longer(unsteady: list[Run], settings: dict[str, Setting]) -> str:
    """The scenario that is unsteady most often, with more requests."""
    counts: dict[str, int] = {}
    for run in unsteady:
        counts[run.setting] = counts.get(run.setting, 0) + 1
    worst = settings[max(counts, key=lambda name: counts[name])]
    requests = worst.workload_summary.num_requests * LONGER
    return f"{_base(worst)} --rate inf --requests {requests}"


def _base(setting: Setting, workload: str | None = None) -> str:
    words = ["apexbench", "compare", "--gpu", setting.gpu, "--model", setting.model]
    return shlex.join([*words, "--workload", workload or setting.workload])
