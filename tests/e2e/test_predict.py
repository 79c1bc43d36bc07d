"""`apexbench predict` as typed: tables, JSON, and every way to ask for the impossible."""

import json
from pathlib import Path
from typing import Any

import pytest

from apexbench.cli.main import run

Capture = pytest.CaptureFixture[str]
STEP = ("--gpu", "t4", "--rows", "7", "--kv-tokens", "2940")
STEADY = ("--steady", "--context", "420", "--host-memory-gib", "4")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No apexbench.toml of somebody's; tables that do not wrap."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def predict_json(capsys: Capture, *arguments: str) -> dict[str, Any]:
    assert run(["predict", *arguments, "--json", "-"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_waterfall_names_ops_bottleneck_and_roofline(capsys: Capture) -> None:
    assert run(["predict", *STEP]) == 0
    shown = capsys.readouterr().out
    for words in ("gate_up", "gpu_attention", "lm_head", "memory-bandwidth-bound", "roofline:"):
        assert words in shown
    assert "warning" not in shown


def test_json_holds_every_op_with_its_circumstances(capsys: Capture) -> None:
    document = predict_json(capsys, *STEP, "--cpu-rows", "2", "--cpu-kv-tokens", "840")
    ops = {op["name"]: op for op in document["layer"]["ops"]}
    assert {op["kind"] for op in ops.values()} == {
        "gemm", "attention", "elementwise", "copy", "overhead",
    }  # fmt: skip
    on_gpu = sum(op["seconds"] for op in ops.values() if op["lane"] == "gpu")
    assert on_gpu == pytest.approx(document["layer"]["gpu_s"])
    assert ops["cpu_attention"]["provenance"] == "anchored"
    assert ops["cpu_attention"]["worst_constants"] == ["xeon-6130x2.paper_kernel_gb_per_s"]
    assert ops["cpu_attention"]["sigma"] == pytest.approx(0.35, rel=0.01)
    assert document["bottleneck"]["resource"] == "gpu_bandwidth"
    assert document["step"]["output_tokens"] == 9
    assert {c["device"] for c in document["constants"]} == {"t4", "xeon-6130x2", "paper"}


def test_equal_questions_get_equal_bytes(tmp_path: Path, capsys: Capture) -> None:
    for name in ("a.json", "b.json"):
        assert run(["predict", *STEP, "--json", name]) == 0
    capsys.readouterr()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize("flag", ["--json", "--html"])
def test_a_file_in_the_way_is_said_before_the_work(
    flag: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "file").write_text("mine")
    assert run(["predict", *STEP, flag, "file/where"]) == 3
    output = capsys.readouterr()
    assert "a file is in the way" in output.err
    assert output.out == ""
    assert (tmp_path / "file").read_text() == "mine"


def test_html_is_written_beside_the_table(tmp_path: Path, capsys: Capture) -> None:
    assert run(["predict", *STEP, "--html", "sub/a.html"]) == 0
    assert "gate_up" in capsys.readouterr().out
    assert "What does one step cost" in (tmp_path / "sub" / "a.html").read_text("utf-8")


def test_the_table_says_intensity_and_what_binds(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("80", "160"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(["predict", *STEP]) == 0
        lines = capsys.readouterr().out.splitlines()
        (row,) = [line.split() for line in lines if line.startswith("qkv ")]
        assert "7.0" in row
        assert "memory" in row
        assert max(map(len, lines[1:20])) <= int(columns)


def test_more_kv_than_the_gpu_holds_is_pointed_out(capsys: Capture) -> None:
    assert run(["predict", "--rows", "100", "--kv-tokens", "100000"]) == 0
    assert "warning: the GPU holds" in capsys.readouterr().out


@pytest.mark.slow
def test_steady_compares_all_strategies(capsys: Capture) -> None:
    found = predict_json(capsys, *STEADY, "--cpu-attention-gbps", "60", "--slo", "tpot=0.15")
    assert list(found["steady"]) == ["gpu_only", "in_layer", "two_batch", "deferred", "fused"]
    best = found["steady"][found["optimum"]]["output_throughput_tok_s"]
    assert best == max(s["output_throughput_tok_s"] for s in found["steady"].values())
    for strategy in found["steady"].values():
        rows = strategy["in_layer_rows"] + strategy["deferred_rows"]
        assert rows <= found["load"]["max_cpu_rows"]
        assert strategy["tpot_gpu_s"] == strategy["step_s"]
        assert (strategy["tpot_cpu_s"] is None) is (rows == 0)
    bounded = found["within_tpot"]
    assert bounded["tpot_s"] == 0.15
    kept = bounded["steady"][bounded["optimum"]]
    assert max(kept["tpot_gpu_s"], kept["tpot_cpu_s"] or 0) <= 0.15
    assert bounded["steady"]["deferred"] is None


@pytest.mark.slow
def test_steady_prints_one_row_per_strategy(capsys: Capture) -> None:
    assert run(["predict", *STEADY, "--ideal", "--cohorts", "4"]) == 0
    shown = capsys.readouterr().out
    for name in ("gpu_only", "in_layer", "two_batch", "deferred", "fused"):
        assert sum(line.split()[:1] == [name] for line in shown.splitlines()) == 1
    assert "best: " in shown


def test_the_environment_names_the_hardware_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APEXBENCH_GPU", "a10")
    document = predict_json(capsys, "--rows", "4", "--kv-tokens", "400")
    assert (document["config"]["gpu"], document["config"]["model"]) == ("a10", "llama-3.1-8b")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ("", 2, "nothing to predict; give --rows"),
        ("--rows -1", 2, "--rows is -1; expected 0 or more"),
        ("--rows x", 2, "--rows"),
        ("--rows 3", 2, "at least one KV token per row"),
        ("--rows 3 --kv-tokens 30 --context 5", 2, "--context needs --steady"),
        ("--rows 3 --kv-tokens 30 --slo tpot=1", 2, "--slo needs --steady"),
        ("--steady", 2, "--steady needs --context"),
        ("--steady --context 420 --rows 0", 2, "--rows is for a single step"),
        ("--steady --context 420 --host-memory-gib nan", 2, "expected a positive number"),
        ("--steady --context 420 --cpu-attention-gbps -5", 2, "--cpu-attention-gbps is -5"),
        ("--steady --context 420 --slo ttft=1", 2, "predict knows tpot only"),
        ("--steady --context 420 --slo tpto=1", 2, "did you mean tpot"),
        ("--gpu t5 --rows 1 --kv-tokens 1", 2, "unknown gpu 't5'; did you mean t4?"),
        ("--weights int3 --rows 1 --kv-tokens 1", 2, "--weights must be fp16, int8 or int4"),
        ("--steady --context 420 --gpu-rows 70", 3, "use at most 7 rows"),
        ("--steady --context 420 --host-memory-gib 0.1", 3, "host memory holds 0 rows"),
        ("--model llama-3.1-70b --rows 1 --kv-tokens 1", 3, "use a smaller model"),
        ("--rows 20000 --kv-tokens 20000", 2, "--rows is 20000; expected at most 16384"),
        ("--rows 1 --kv-tokens 1 --html -", 2, "only --json can go to standard output"),
        ("--steady --context 0", 2, "--context is 0; expected 1 to 4096"),
        ("--steady --context 4097", 2, "--context is 4097; expected 1 to 4096"),
        ("--steady --context 2.5", 2, "--context"),
        ("--steady --context 420 --gpu-rows 0", 2, "--gpu-rows is 0; expected at least 1"),
        ("--steady --context 420 --gpu-rows x", 2, "--gpu-rows"),
        ("--steady --context 420 --cohorts 0", 2, "--cohorts is 0; expected 1 to 33"),
        ("--steady --context 420 --cohorts 34", 2, "--cohorts is 34; expected 1 to 33"),
        ("--steady --context 420 --host-memory-gib 0", 2, "expected a positive number"),
        ("--steady --context 420 --host-memory-gib inf", 2, "expected a positive number"),
        ("--steady --context 420 --cpu-attention-gbps nan", 2, "expected a positive number"),
        ("--steady --context 420 --slo tpot=nan", 2, "must be a positive number of seconds"),
        ("--steady --context 420 --slo tpot=0", 2, "must be a positive number of seconds"),
        ("--steady --context 420 --slo tpot", 2, "must be name=value"),
        ("--steady --context 420 --kv-tokens 9", 2, "--kv-tokens is for a single step"),
        ("--steady --context 420 --gpu-kv-tokens 1", 2, "expected at least one block"),
        ("--steady --context 4096", 3, "use a context of at most 3104 tokens"),
        ("--steady --context 420 --gpu-rows 1 --host-memory-gib 1e9", 3, "at most 16384"),
        ("--steady --context 1", 3, "use a longer --context or less --host-memory-gib"),
        ("--steady --context 1 --gpu h100 --host g4dn.xlarge", 3, "GPU rows are more than"),
        ("--steady --context 420 --host-memory-gib 0.5 --slo tpot=1e-6", 3, "relax the bound"),
        ("--steady --context 420 --model llama-2-13b", 3, "use int4, a smaller model"),
        ("--steady --context 420 --config no.toml", 3, "cannot read config file"),
    ],
)
def test_the_impossible_gets_one_sentence(
    arguments: str, code: int, sentence: str, capsys: Capture
) -> None:
    assert run(["predict", *arguments.split()]) == code
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("apexbench: ")
    assert sentence in line
    assert "bug" not in line
    assert output.out == ""
