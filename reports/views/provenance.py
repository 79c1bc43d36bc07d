"""What is needed to do it again: command, configuration, warnings, machine."""

import json
from collections.abc import Iterator

from apexbench.reports.outcome import Outcome
from apexbench.reports.panels import Note, Panel, Table, Text, View
from apexbench.reports.wording import seconds
from apexbench.result import Environment


def build(outcome: Outcome) -> Iterator[Panel]:
    """Command, warnings, configuration and environment."""
    result = outcome.result
    yield Panel("provenance-command", "Command", "Repeats this result.", Text(result.command))
    yield _warnings(result.warnings)
    config = json.dumps(result.config, indent=2, sort_keys=True, ensure_ascii=False)
    hint = "After command line, environment, file, preset and defaults."
    yield Panel("provenance-config", "Resolved configuration", hint, Text(config), is_folded=True)
    hint = "Where the tool ran; equal seeds give equal results elsewhere."
    yield Panel("provenance-environment", "Environment", hint, _environment(result.environment))


def _warnings(warnings: tuple[str, ...]) -> Panel:
    if not warnings:
        return Panel("provenance-warnings", "Warnings", "", Note("None."))
    table = Table(("warning",), tuple((text,) for text in warnings))
    return Panel("provenance-warnings", "Warnings", "What limits these numbers.", table)


def _environment(environment: Environment) -> Table:
    commit = environment.git_commit or "not known"
    if environment.is_git_dirty:
        commit += " with local changes"
    # 0: the date is fixed for reproducible bytes, and so is this.
    wall = seconds(environment.wall_s) if environment.wall_s > 0 else "not recorded"
    rows = (
        ("created", environment.created_at),
        ("python", environment.python),
        ("platform", environment.platform),
        ("CPU", f"{environment.cpu_model}, {environment.logical_cpus} logical"),
        *_real_time(environment),
        ("commit", commit),
        ("wall time", wall),
        ("virtual time", seconds(environment.simulated_s)),
        *sorted(environment.packages.items()),
    )
    return Table(("what", "value"), rows)


def _real_time(environment: Environment) -> Iterator[tuple[str, str]]:
    """What only runs in real time depend on."""
    if environment.cpu_kernels is not None:
        yield "CPU kernels", environment.cpu_kernels
    for lane, num in sorted(environment.threads.items()):
        yield f"threads of the {lane} lane", str(num)


VIEW = View(
    id="provenance",
    title="Provenance",
    lead="Everything needed to repeat this result.",
    place="more",
    build=build,
)
