"""Results of runs in real time: what they rest on, when they are withheld, lanes in a view."""

import io
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from apexbench.reports import html, markdown, terminal
from apexbench.reports.basis import basis
from apexbench.reports.outcome import index
from apexbench.reports.verdicts import verdicts, where_hybrid_loses
from apexbench.reports.views import forecasts
from apexbench.reports.wording import times
from apexbench.result import Measured, Result, Run, Spread, StepTimes, parse, to_json
from apexbench.result.frames import frames

BUSY = "other processes took 40% of the CPUs"
LANES = {"gpu": 2.0, "cpu": 1.0, "step": 2.5}


def measured(**changes: Any) -> Measured:
    values: dict[str, Any] = {
        "cpu_threads": 3,
        "host_kv_tokens_limit": 4096,
        "python_s_per_step": Spread(mean=4e-4, p50=3e-4, p99=9e-4, max=2e-3, n=50),
        "lane_measured_s": LANES,
        "lane_predicted_s": {lane: 0.9 * value for lane, value in LANES.items()},
        "lane_prediction_error": {"gpu": 0.02, "cpu": 0.25, "step": 0.05},
        "lane_cpu_s": {"cpu": 2.5},
        "lateness_s": Spread(mean=None, p50=1e-5, p99=2e-4, max=1e-3, n=9000),
    }
    return Measured(**(values | changes))


def real(result: Result, busy: int = 0, **changes: Any) -> Result:
    """The same with every run measured; `busy` of them on a machine that was not quiet."""

    def run_of(position: int, run: Run) -> Run:
        doubt = {"is_trustworthy": False, "distrust": BUSY} if position < busy else {}
        took = StepTimes(step_s=2e-2, gpu_s=1e-2, cpu_s=0, h2d_s=0, d2h_s=0)
        steps = tuple(
            step.model_copy(update={"measured": took, "predicted": took}) for step in run.steps
        )
        facts = measured(**doubt, **changes)
        return run.model_copy(update={"measured": facts, "steps": steps})

    runs = tuple(run_of(position, run) for position, run in enumerate(result.runs))
    comparisons = () if busy else result.comparisons
    return result.model_copy(update={"runs": runs, "comparisons": comparisons})


def printed(result: Result) -> str:
    out = io.StringIO()
    terminal.render(result, Console(file=out, width=200, color_system=None))
    return " ".join(out.getvalue().split())


def panels(result: Result) -> dict[str, Any]:
    return {panel.id: panel for panel in forecasts.VIEW.build(index(result))}


@pytest.mark.parametrize(
    ("backend", "badge", "sentence"),
    [
        ("sim", "SIMULATED", "comes from a cost model"),
        ("emulated", "EMULATED", "the CPU lane, not the model of the GPU"),
        ("cpu", "MEASURED ON THE CPU", "ratios between policies do not transfer to one"),
    ],
)
def test_every_report_says_what_it_rests_on(
    backend: str, badge: str, sentence: str, synthetic: ModuleType
) -> None:
    result = synthetic.build(seeds=2, backend=backend, cases=synthetic.CASES[:1])
    found = basis(result)
    assert found.badge.startswith(badge)
    assert sentence in found.text
    assert found.alarm == ""
    for text in (printed(result), markdown.render(result), html.render(result)):
        assert badge in text


@pytest.mark.parametrize(
    ("backend", "flag"), [("sim", None), ("emulated", "GPU emulated"), ("cpu", "CPU only")]
)
def test_a_verdict_is_not_quoted_for_more_than_it_says(
    backend: str, flag: str | None, synthetic: ModuleType
) -> None:
    result = synthetic.build(backend=backend, cases=synthetic.CASES[:1])
    flags = {caution.flag for verdict in verdicts(result) for caution in verdict.cautions}
    assert flags.intersection({"GPU emulated", "CPU only"}) == ({flag} if flag else set())


def test_a_busy_machine_withholds_verdicts_everywhere(synthetic: ModuleType) -> None:
    result = real(synthetic.build(backend="emulated", cases=synthetic.CASES[:1]), busy=2)
    (verdict,) = verdicts(result)
    assert verdict.tone == "unclear"
    assert verdict.label == "Withheld: the machine was too busy"
    assert verdict.candidate is None
    assert BUSY in verdict.sentence
    assert "too busy for runs to be compared" in where_hybrid_loses(result).sentence.text
    alarm = basis(result).alarm
    assert alarm.startswith("NOT FOR PUBLICATION: in 2 of ")
    assert alarm in printed(result)
    assert "NOT FOR PUBLICATION" in markdown.render(result)
    assert 'id="alarm" role="alert"' in html.render(result)
    assert 'class="tag">best hybrid' not in html.render(result)


def test_other_scenarios_keep_their_verdicts(synthetic: ModuleType) -> None:
    whole = synthetic.build(backend="emulated", cases=synthetic.CASES[:2])
    first, second = verdicts(whole)
    found = real(whole, busy=1).model_copy(update={"comparisons": whole.comparisons})
    doubtful, kept = verdicts(found)
    assert doubtful.label.startswith("Withheld")
    assert first.label != doubtful.label
    assert kept == second


def test_a_quiet_machine_raises_no_alarm(synthetic: ModuleType) -> None:
    plain = synthetic.build(backend="emulated", cases=synthetic.CASES[:1])
    assert verdicts(real(plain)) == verdicts(plain)
    assert 'id="alarm"' not in html.render(real(plain))


def test_runs_in_virtual_time_have_no_such_view(synthetic: ModuleType) -> None:
    result = synthetic.build(seeds=1, cases=synthetic.CASES[:1])
    assert panels(result) == {}
    assert "Predicted and measured" not in html.render(result)


def test_lanes_are_shown_with_their_errors(synthetic: ModuleType) -> None:
    found = panels(real(synthetic.build(seeds=2, cases=synthetic.CASES[:1], backend="emulated")))
    chart = found["forecasts-0-errors"].body
    assert [trace["name"] for trace in chart.figure["data"]] == ["gpu", "cpu", "step"]
    assert all(row[4] == times(0.9) for row in chart.table.rows)
    assert "CPU lane 25\u202f%" in chart.summary
    overhead = found["forecasts-0-overhead"].body
    assert overhead.rows[0][3:8] == (
        "3", "400\u202fµs", "300\u202fµs", "900\u202fµs", "10.0\u202fµs",
    )  # fmt: skip
    assert {row[-1] for row in overhead.rows} == {"yes"}


def test_steps_are_drawn_measured_and_predicted(synthetic: ModuleType) -> None:
    result = real(synthetic.build(seeds=1, cases=synthetic.CASES[:1], backend="cpu"))
    charts = [panel.body for name, panel in panels(result).items() if name.endswith("-steps")]
    assert charts
    for chart in charts:
        names = [trace["name"] for trace in chart.figure["data"]]
        assert names == ["step measured", "step predicted", "gpu measured", "gpu predicted"]


def test_documents_and_frames_keep_what_was_measured(synthetic: ModuleType) -> None:
    result = real(synthetic.build(seeds=1, cases=synthetic.CASES[:1], backend="emulated"))
    assert parse(to_json(result), "again") == result
    runs = frames(result).runs
    assert set(runs["is_trustworthy"]) == {True}
    assert set(runs["lane_cpu_prediction_error"]) == {0.25}
    assert set(runs["python_s_per_step_mean"]) == {4e-4}
    assert "is_trustworthy" not in frames(synthetic.build(seeds=1)).runs.columns
