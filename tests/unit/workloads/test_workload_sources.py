"""Workloads by name: presets, synthetic forms, trace files, and near misses."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apexbench.errors import InputError, UsageError
from apexbench.workloads.lengths import Fixed, LogNormal, Marginals, Quantiles, Uniform
from apexbench.workloads.presets import PRESETS
from apexbench.workloads.readers import read_trace
from apexbench.workloads.sources import resolve


@pytest.mark.parametrize(
    ("spec", "lengths"),
    [
        ("fixed:128/32", Marginals(Fixed(128), Fixed(32))),
        ("uniform:1-8/2-2", Marginals(Uniform(1, 8), Uniform(2, 2))),
        ("lognormal:1000-4000/150-450", Marginals(LogNormal(1000, 4000), LogNormal(150, 450))),
    ],
)
def test_synthetic_lengths_are_written_as_in_out(spec: str, lengths: Marginals) -> None:
    source = resolve(spec)
    assert source.lengths == lengths
    assert (source.name, source.has_arrivals, source.is_approximated) == (spec, False, False)
    assert (source.default_slo.ttft_s, source.default_slo.tpot_s) == (5.0, 0.4)


@pytest.mark.parametrize(
    ("name", "ttft_s", "tpot_s", "is_approximated", "is_long_output"),
    [
        ("osc", 5.0, 0.4, False, False),
        ("azure-conv", 2.0, 0.2, False, False),
        ("azure-code", 2.0, 0.2, False, False),
        ("long-context", 30.0, 0.2, False, False),
        ("chat", 2.0, 0.2, True, False),
        ("livebench", 5.0, 0.4, True, False),
        ("dolphin-r1", 5.0, 0.4, True, True),
        ("reasoning", 5.0, 0.4, True, True),
    ],
)
def test_presets_carry_their_targets_and_their_honesty(
    name: str, ttft_s: float, tpot_s: float, is_approximated: bool, is_long_output: bool
) -> None:
    source = resolve(name)
    assert (source.default_slo.ttft_s, source.default_slo.tpot_s) == (ttft_s, tpot_s)
    assert source.is_approximated == is_approximated
    assert source.is_long_output == is_long_output
    assert source.citation
    assert "\n" not in source.citation


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_quantile_tables_rise_from_0_to_1(name: str) -> None:
    lengths = PRESETS[name].lengths
    for table in (lengths.prompt, lengths.output):
        assert isinstance(table, Quantiles)
        assert len(table.probabilities) == len(table.tokens)
        assert (table.probabilities[0], table.probabilities[-1]) == (0, 1)
        assert (np.diff(table.probabilities) > 0).all()
        assert (np.diff(table.tokens) >= 0).all()
        assert table.tokens[0] >= 1


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("osc", "osc-llama2-lengths.json"),
        ("azure-conv", "azure-conv-2023.csv"),
        ("azure-code", "azure-code-2023.csv"),
        ("long-context", "mooncake-conversation.jsonl"),
    ],
)
def test_measured_presets_are_the_quantiles_of_the_real_trace(
    name: str, file: str, real_trace: Callable[[str], Path]
) -> None:
    trace = read_trace(real_trace(file))
    lengths = PRESETS[name].lengths
    for table, tokens in (
        (lengths.prompt, trace.prompt_tokens),
        (lengths.output, trace.output_tokens),
    ):
        assert isinstance(table, Quantiles)
        measured = np.rint(np.quantile(tokens, table.probabilities)).astype(int)
        assert table.tokens == tuple(measured.tolist())
        # Straight lines between quantiles lie above a falling tail: 1.2 % for azure-code's outputs.
        tolerance = 0.02 if name == "azure-code" else 0.01
        drawn = table.draw(np.random.default_rng(0), 200_000)
        assert drawn.mean() == pytest.approx(tokens.mean(), rel=tolerance)


@pytest.mark.parametrize(
    "spec",
    ["fixed:", "fixed:128", "fixed:1/2/3", "fixed:a/b", "fixed:1.5/2", "fixed:-1/2", "uniform:1/2",
     "uniform:1-2", "lognormal:5-6/7", "fixed:1234567890/1"],
)  # fmt: skip
def test_a_malformed_synthetic_workload_says_how_to_write_it(spec: str) -> None:
    kind, _, _ = spec.partition(":")
    with pytest.raises(UsageError, match=f"'{spec}' is not understood; write {kind}:"):
        resolve(spec)


@pytest.mark.parametrize("spec", ["fixed:0/5", "uniform:9-3/1-2", "lognormal:5-6/7-2"])
def test_lengths_that_make_no_sense_are_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="makes no sense"):
        resolve(spec)


def test_unknown_names_list_near_matches() -> None:
    with pytest.raises(UsageError, match="did you mean azure-conv"):
        resolve("azure-con")
    with pytest.raises(
        UsageError, match="known: azure-code, azure-conv, chat, dolphin-r1, fixed:IN/OUT"
    ):
        resolve("zzzzz")


def test_a_bare_file_name_is_told_to_say_trace() -> None:
    with pytest.raises(UsageError, match=r"write trace:my\.csv"):
        resolve("my.csv")


def test_a_trace_is_named_by_its_file_alone(write: Callable[..., Path]) -> None:
    path = write(json.dumps([{"prompt": 5, "max_tokens": 2000}]), "lengths.json")
    source = resolve(f"trace:{path}")
    assert source.name == "trace:lengths.json"
    assert source.citation.startswith("lengths.json (lengths-json, 1 rows, sha256 ")
    assert not source.has_arrivals
    assert source.is_long_output
    assert (source.default_slo.ttft_s, source.default_slo.tpot_s) == (5.0, 0.4)


@pytest.mark.parametrize(
    ("name", "prompt_mean", "output_mean"),
    # From the sources that presets.py names: sizes of published files over 4, and question texts.
    [("livebench", 377, 400), ("dolphin-r1", 185, 2863)],
)
def test_approximated_presets_keep_the_means_they_are_built_on(
    name: str, prompt_mean: float, output_mean: float
) -> None:
    lengths = PRESETS[name].lengths
    for table, mean in ((lengths.prompt, prompt_mean), (lengths.output, output_mean)):
        assert isinstance(table, Quantiles)
        middles = np.convolve(table.tokens, (0.5, 0.5), mode="valid")
        assert middles @ np.diff(table.probabilities) == pytest.approx(mean, rel=0.06)


def test_an_estimated_trace_says_so(write: Callable[..., Path]) -> None:
    messages = [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello yourself"}]
    source = resolve(f"trace:{write(json.dumps([{'conversations': messages}]), 'share.json')}")
    assert source.is_approximated
    assert "characters / 4" in source.citation
    counted = write("isl,osl\n5,6\n")
    assert not resolve(f"trace:{counted}").is_approximated


def test_a_missing_trace_is_an_input_error() -> None:
    with pytest.raises(InputError, match="cannot read trace file"):
        resolve("trace:/nowhere/at-all.csv")


@pytest.mark.parametrize("spec", ["osc", "lognormal:10-20/1-2"])
def test_sources_travel_between_processes(spec: str) -> None:
    source = resolve(spec)
    assert pickle.loads(pickle.dumps(source)).lengths == source.lengths
