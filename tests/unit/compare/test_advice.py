"""The `next:` line: always a command that the command line accepts, and the most useful one."""

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from apexbench.cli import compare as command_module
from apexbench.cli.main import run
from apexbench.compare.advice import next_command
from apexbench.compare.command_line import command, config_document
from apexbench.config import CompareConfig, resolve
from apexbench.metrics.comparisons import comparisons
from apexbench.result import Environment, Result, Run, Setting

MakeRun = Callable[..., Run]
MakeSetting = Callable[..., Setting]
ENVIRONMENT = Environment(
    created_at="", python="", platform="", cpu_model="", logical_cpus=1, packages={},
    wall_s=0, simulated_s=0,
)  # fmt: skip


def document(settings: list[Setting], runs: list[Run], **options: Any) -> Result:
    config = resolve(options, {}, None)
    return Result(
        tool_version="0", kind="compare", config=config_document(config), command=command(config),
        environment=ENVIRONMENT, settings=tuple(settings), runs=tuple(runs),
        comparisons=comparisons(runs, settings)[0],
    )  # fmt: skip


def parsed(line: str, monkeypatch: pytest.MonkeyPatch) -> CompareConfig:
    """What the command line makes of a suggestion, without running it."""
    seen: list[CompareConfig] = []

    class Recorder:
        def __init__(self, config: CompareConfig, **_: object) -> None:
            seen.append(config)

        def run(self) -> int:
            return 0

    monkeypatch.setattr(command_module, "_Session", Recorder)
    program, *words = shlex.split(line)
    assert (program, run(words)) == ("apexbench", 0)
    (config,) = seen
    return config


def test_unsteady_saturation_asks_for_more_requests_there(
    make_run: MakeRun, make_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [make_setting("inf"), make_setting("inf", "a10/llama-3.1-8b/chat")]
    runs = [make_run(settings[0]), make_run(settings[1], reason="short")]
    found = parsed(next_command(document(settings, runs, seeds=2)), monkeypatch)
    assert (found.gpu, found.model, found.workload) == ("a10", "llama-3.1-8b", "chat")
    assert (found.rate, found.requests, found.seeds) == (("inf",), 160, 2)


def test_nothing_significant_asks_for_more_seeds(
    make_run: MakeRun, make_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_setting("1x")
    runs = [make_run(setting, name, seed) for name in ("gpu-only", "neo") for seed in (0, 1)]
    options = {"gpu": "t4", "policies": "neo", "max_context": "512:clip", "rate": "1x"}
    found = parsed(next_command(document([setting], runs, **options)), monkeypatch)
    assert found.seeds == 8
    assert (found.gpu, found.policies, found.max_context) == ("t4", ("neo",), "512:clip")


def test_clear_answer_asks_for_own_traffic_then_for_finer_rates(
    make_run: MakeRun, make_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_setting("inf")
    found = parsed(next_command(document([setting], [make_run(setting)], gpu="t4")), monkeypatch)
    assert found.workload == "trace:YOUR_TRAFFIC.csv"
    traced = setting.model_copy(update={"workload": "trace:mine.csv"})
    result = document([traced], [make_run(traced)], gpu="t4", workload="trace:data/mine.csv")
    found = parsed(next_command(result), monkeypatch)
    assert found.workload == "trace:data/mine.csv"
    assert len(found.rate) == 5


def test_interrupted_comparison_asks_for_the_same_again(
    make_run: MakeRun, make_setting: MakeSetting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_setting("inf")
    result = document([setting], [make_run(setting, reason="short")], gpu="t4", seeds=4)
    line = next_command(result.model_copy(update={"is_partial": True}))
    assert line == "apexbench compare --gpu t4 --seeds 4"
    assert parsed(line, monkeypatch).seeds == 4
