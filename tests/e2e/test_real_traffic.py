"""Real traffic through the whole command: what was served, dropped and found is in the result."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apexbench.cli.main import run
from apexbench.result import Result, read

RealTrace = Callable[[str], Path]


def compared(tmp_path: Path, *arguments: str) -> Result:
    out = tmp_path / "out"
    assert run(["compare", *arguments, "--out", str(out), "--quiet", "--jobs", "1"]) == 0
    assert (out / "report.html").stat().st_size > 1_000_000
    return read(out / "result.json")


@pytest.mark.slow
def test_azure_conversations_on_an_a10(tmp_path: Path, real_trace: RealTrace) -> None:
    path = real_trace("azure-conv-2023.csv")
    result = compared(
        tmp_path,
        *("--gpu", "a10", "--model", "llama-3.1-8b", "--workload", f"trace:{path}"),
        *("--max-context", "4096:drop", "--policies", "gpu-only,neo,apex"),
        *("--rate", "0.8x,inf", "--requests", "120", "--seeds", "2"),
    )
    assert {run.policy for run in result.runs} == {"gpu-only", "neo", "apex"}
    assert all(run.metrics.completed > 0 and not run.failures for run in result.runs)
    summary = result.settings[0].workload_summary
    assert summary.dropped["longer than max context"] > 0
    assert summary.prompt_tokens.max + summary.output_tokens.p50 <= 4096 + summary.output_tokens.max
    bursty = next(s for s in result.settings if s.rate_label == "0.8x").workload_summary
    assert bursty.interarrival_cv is not None
    assert bursty.interarrival_cv > 0.5


@pytest.mark.slow
def test_summaries_on_a_t4(tmp_path: Path, real_trace: RealTrace) -> None:
    path = real_trace("osc-llama2-lengths.json")
    result = compared(
        tmp_path,
        *("--gpu", "t4", "--model", "llama-2-7b", "--workload", f"trace:{path}"),
        *("--policies", "gpu-only,static:deferred", "--rate", "inf"),
        *("--requests", "150", "--seeds", "2"),
    )
    by_policy = {run.policy: run for run in result.runs if run.seed == 0}
    assert by_policy["gpu-only"].served_set_sha256 == by_policy["static:deferred"].served_set_sha256
    assert by_policy["static:deferred"].decisions["deferred"] > 0
    assert by_policy["gpu-only"].latency_by_tier["cpu"] is None
