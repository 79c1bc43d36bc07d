"""Draws and tornado within a comparison: what they need, their phases, and interrupts."""

from typing import Any

import pytest

from apexbench.compare.advice import next_command
from apexbench.compare.comparison import Comparison
from apexbench.compare.pool import Extent, Progress
from apexbench.compare.scenarios import preset_values
from apexbench.config import resolve
from apexbench.errors import UsageError
from apexbench.result import Result, to_json


def prepared(**options: Any) -> Comparison:
    given = {"gpu": "t4", "workload": "fixed:30/5", "requests": 12, "seeds": 1, "rate": ["inf"],
             "policies": ["gpu-only", "neo", "apex"], "jobs": 1}  # fmt: skip
    return Comparison.prepare(resolve(given | options, {}, None, preset_values))


def finished(**options: Any) -> Result:
    comparison = prepared(**options)
    comparison.run(lambda _: lambda _: None)
    return comparison.document(wall_s=0)


@pytest.mark.parametrize(
    ("options", "flags"),
    [({"draws": 4}, "--draws needs"), ({"tornado": True}, "--tornado needs"),
     ({"draws": 4, "tornado": True}, "--draws and --tornado need")],
)  # fmt: skip
def test_saturation_must_be_run(options: dict[str, Any], flags: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepared(rate=["0.8x", "2"], **options)
    sentence = f"{flags} the saturation run: add inf to --rate (it is 0.8x,2)"
    assert str(caught.value) == sentence


def test_a_tornado_needs_a_hybrid() -> None:
    with pytest.raises(UsageError, match="--tornado needs a hybrid"):
        prepared(policies=["gpu-only", "gpu-only+int4"], tornado=True)
    assert prepared(policies=["gpu-only"], draws=1).config.draws == 1


def test_each_has_a_phase_of_its_own() -> None:
    seen: list[str] = []

    def phase(name: str) -> Progress:
        seen.append(name)
        return lambda _: None

    prepared(draws=1, tornado=True).run(phase)
    scenario = "t4/llama-2-7b/fixed:30/5"
    assert seen == ["saturation", "rates", f"draws {scenario}", f"tornado {scenario}"]


def test_processes_do_not_change_the_document() -> None:
    documents = [finished(draws=2, tornado=True, jobs=jobs) for jobs in (1, 2)]
    alike = {"environment": documents[0].environment}
    one, two = (to_json(document.model_copy(update=alike)) for document in documents)
    assert one == two
    assert documents[0].sensitivities


def test_an_interrupt_in_the_draws_keeps_what_is_done() -> None:
    def phase(name: str) -> Progress:
        def move(extent: Extent) -> None:
            if name.startswith("draws") and extent.runs_done == 5:  # gpu-only, neo; apex has one
                raise KeyboardInterrupt

        return move

    comparison = prepared(draws=2, tornado=True)
    comparison.run(phase)
    result = comparison.document(wall_s=0)
    assert comparison.is_interrupted
    assert result.is_partial
    assert [run.variant for run in result.runs] == ["gpu-only", "neo", "apex"]
    assert [run.draws is not None for run in result.runs] == [True, True, False]
    assert any("no draws of apex: not all have ended" in text for text in result.warnings)
    assert comparison.failures == ()


def test_the_next_command_can_be_run() -> None:
    """A suggestion without saturation must not ask for what needs it."""
    result = finished(workload="fixed:30/5", draws=1, tornado=True)
    traced = result.settings[0].model_copy(update={"workload": "trace:mine.csv"})
    steady = result.runs[0].window.model_copy(update={"is_steady": True})
    runs = tuple(run.model_copy(update={"window": steady}) for run in result.runs)
    clear = result.model_copy(update={"settings": (traced,), "runs": runs, "comparisons": ()})
    line = next_command(clear)
    assert "0.7x" in line
    assert "--draws" not in line
    assert "--tornado" not in line
