"""A scenario's backlog on devices that are not what the policies take them for. Draws nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from apexbench.compare.cells import Cell
from apexbench.compare.matrix import BACKLOG, setting_cells
from apexbench.compare.scenarios import Placement, Scenario, longest_prompt
from apexbench.engine.constants import with_constants
from apexbench.engine.simulate import capacity_for
from apexbench.result import Run


def backlog_on(
    scenario: Scenario, values: Mapping[str, float], variants: Sequence[str], seed: int
) -> tuple[Cell, ...]:
    """One cell per variant, in their order, with these true values of device constants.

    The same requests as at saturation: fewer would end before the CPU tier is steady. Policies go
    on believing the profiles. Capacity follows the true values, because an engine
    measures free memory when it starts, and requests that some placement of the scenario cannot
    hold are left out for all. InputError where the model or every request no longer fits.
    """
    moved = on_devices(scenario, values)
    chosen = [p for name in variants for p in moved.placements if p.variant.id == name]
    cells = setting_cells(moved, BACKLOG, None, (seed,), chosen, None).cells
    return tuple(replace(cell, keeps_details=False) for cell in cells)


def on_devices(scenario: Scenario, values: Mapping[str, float]) -> Scenario:
    """The scenario with these true values, beliefs as they were. InputError where the model no
    longer fits.
    """
    return replace(scenario, placements=_placed_again(scenario, values))


def throughput_ratio(candidate: Run, baseline: Run) -> float | None:
    """Candidate / baseline; None where they served different requests or nothing."""
    ours = candidate.metrics.output_throughput_tok_s
    theirs = baseline.metrics.output_throughput_tok_s
    if candidate.served_set_sha256 != baseline.served_set_sha256 or not (ours and theirs):
        return None
    return ours / theirs


def _placed_again(scenario: Scenario, values: Mapping[str, float]) -> tuple[Placement, ...]:
    base = scenario.baseline
    true_base = with_constants(base.deployment, values)
    longest = longest_prompt(true_base, base.thresholds, scenario.max_context.tokens)
    placed = []
    for placement in scenario.placements:
        true = with_constants(placement.deployment, values)
        policy = placement.variant.entry.name
        capacity = capacity_for(true, policy, placement.thresholds, longest)
        placed.append(replace(placement, hardware=true, capacity=capacity))
    return tuple(placed)
