"""From names to cells: variants, scenarios, the matrix, and the command that repeats them."""

import shlex
from typing import Any

import pytest

from apexbench.compare.command_line import command, config_document, config_from
from apexbench.compare.matrix import BACKLOG, setting_cells
from apexbench.compare.scenarios import DEFAULT_SCENARIOS, Scenario, preset_values, scenarios
from apexbench.compare.variants import parse_variant, parse_variants
from apexbench.config import CompareConfig, Rate, resolve
from apexbench.errors import InputError, UsageError


def config(**values: Any) -> CompareConfig:
    return resolve(values, {}, None, preset_values)


def only_scenario(**values: Any) -> Scenario:
    given = config(**{"gpu": "t4", "policies": ["gpu-only", "apex"], "requests": 20, **values})
    (found,) = scenarios(given, parse_variants(given.policies))
    return found


def test_variant_may_carry_its_own_weights() -> None:
    variant = parse_variant("gpu-only+int4")
    assert (variant.id, variant.entry.name, variant.weights) == (
        "gpu-only+int4",
        "gpu-only",
        "int4",
    )
    assert variant.document().overrides == {"weights": "int4"}
    assert parse_variant("neo").document().overrides == {}


@pytest.mark.parametrize(
    ("text", "hint"), [("neoo", "did you mean neo"), ("neo+int5", "did you mean int8 or int4")]
)
def test_unknown_variants_name_near_ones(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        parse_variant(text)


@pytest.mark.parametrize(
    ("text", "identity", "overrides"),
    [
        ("gpu-only+chunk256", "gpu-only+chunk256", {"max_batched_tokens": 256}),
        ("gpu-only+max_batched_tokens=256", "gpu-only+chunk256", {"max_batched_tokens": 256}),
        ("planner+hysteresis=0.1+int8", "planner+hysteresis=0.1+int8",
         {"weights": "int8", "hysteresis": 0.1}),
        ("apex+belief=xeon-6342x2", "apex+belief=xeon-6342x2", {"belief": "xeon-6342x2"}),
        ("static:deferred+join_mode=poll", "static:deferred+join_mode=poll", {"join_mode": "poll"}),
    ],
)  # fmt: skip
def test_a_variant_carries_what_was_changed(
    text: str, identity: str, overrides: dict[str, object]
) -> None:
    variant = parse_variant(text)
    assert (variant.id, variant.document().overrides) == (identity, overrides)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpu-only+int4+int8", "sets weights twice"),
        ("gpu-only+chunk256+max_batched_tokens=512", "sets max_batched_tokens twice"),
        ("neo+hysteresis=0.1", "does not listen to threshold hysteresis"),
        ("apex+belief=xeon-6342", "did you mean xeon-6342x2"),
        ("gpu-only+chunk8", "from 128 to 8192"),
        ("apex+two_batch_bais=2", "did you mean two_batch_bias"),
    ],
)
def test_impossible_changes_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_variant(text)


@pytest.mark.parametrize("names", [("neo",), ("neo", "gpu-only"), ("neo", "neo")])
def test_baseline_is_first_and_nothing_is_there_twice(names: tuple[str, ...]) -> None:
    assert [variant.id for variant in parse_variants(names)] == ["gpu-only", "neo"]


def test_without_hardware_model_and_traffic_the_default_scenarios_are_run() -> None:
    given = config(policies=["gpu-only"])
    found = scenarios(given, parse_variants(given.policies))
    assert [(s.baseline.deployment.gpu.name, s.source.name) for s in found] == [*DEFAULT_SCENARIOS]
    assert [s.baseline.deployment.model.name for s in found] == [
        "llama-2-7b", "llama-2-7b", "llama-3.1-8b",
    ]  # fmt: skip
    assert found[1].backlog_requests < found[0].backlog_requests  # long outputs


def test_variant_weights_decide_its_capacity() -> None:
    scenario = only_scenario(policies=["gpu-only", "gpu-only+int4"])
    base, small = scenario.placements
    assert base.deployment.weight_dtype == "fp16"
    assert small.deployment.weight_dtype == "int4"
    assert small.capacity.gpu_kv_tokens > 2 * base.capacity.gpu_kv_tokens


def test_gpu_kv_tokens_and_context_are_obeyed() -> None:
    scenario = only_scenario(gpu_kv_tokens=864, max_context="512:clip")
    assert {p.capacity.gpu_kv_tokens for p in scenario.placements} == {864}
    assert (scenario.max_context.tokens, scenario.max_context.mode) == (512, "clip")
    assert only_scenario(max_context=10**6).max_context.tokens == 4096  # the model's positions
    assert scenario.served_tokens == 864  # gpu-only holds no more, so nobody is asked for more


def test_targets_come_with_the_preset_and_yield_one_by_one() -> None:
    given = config(gpu="t4", workload="osc", slo=["ttft=9"])
    assert given.slo == {"ttft": 9.0, "tpot": 0.4}
    assert given.provenance["slo.tpot"] == "preset osc"
    assert only_scenario(workload="osc", slo=["ttft=9"]).slo.model_dump() == {
        "ttft_s": 9.0, "tpot_s": 0.4, "e2e_s": None,
    }  # fmt: skip
    assert preset_values("fixed:10/10") == {}


def test_every_variant_and_rate_gets_the_same_requests() -> None:
    scenario = only_scenario()
    backlog = setting_cells(scenario, BACKLOG, None, (3, 4), scenario.placements, None)
    online = setting_cells(
        scenario, Rate("0.5x", multiple=0.5), 4.0, (3, 4), scenario.placements, None
    )
    assert [(c.placement.variant.id, c.seed) for c in backlog.cells] == [
        ("gpu-only", 3), ("gpu-only", 4), ("apex", 3), ("apex", 4),
    ]  # fmt: skip
    assert backlog.cells[0].workload is backlog.cells[2].workload
    assert (backlog.document.rate_rps, online.document.rate_rps) == (None, 2.0)
    queued, spread = (part.cells[0].workload.requests for part in (backlog, online))
    lengths = [[(r.prompt_tokens, r.output_tokens) for r in rows] for rows in (queued, spread)]
    assert lengths[0] == lengths[1]
    assert {r.arrival_ns for r in queued} == {0}
    assert spread[-1].arrival_ns > 0
    assert [c.keeps_details for c in backlog.cells] == [True, False, True, False]


def test_requests_that_one_variant_cannot_hold_are_left_out_for_all() -> None:
    scenario = only_scenario(gpu_kv_tokens=480)
    part = setting_cells(scenario, BACKLOG, None, (0,), scenario.placements, None)
    kept = part.cells[0].workload.requests
    assert 0 < part.num_left_out < 20
    assert len(kept) + part.num_left_out == 20
    assert max(request.total_tokens for request in kept) <= 480


def test_nothing_that_fits_is_an_input_error() -> None:
    scenario = only_scenario(gpu_kv_tokens=16)
    with pytest.raises(InputError):
        setting_cells(scenario, BACKLOG, None, (0,), scenario.placements, None)


def test_command_repeats_what_was_asked_and_not_where_it_goes() -> None:
    given = config(
        gpu="t4", workload="osc", policies=["apex", "neo"], rate=["2", "inf"], seeds=5,
        slo=["ttft=9"], thresholds=["max_batched_tokens=512"], out="x", jobs=2, quiet=True,
    )  # fmt: skip
    assert command(given) == (
        "apexbench compare --gpu t4 --workload osc --policies apex,neo --rate 2,inf --seeds 5"
        " --slo ttft=9.0 --set max_batched_tokens=512"
    )
    assert command(config()) == "apexbench compare"


def test_saved_configuration_asks_for_the_same() -> None:
    given = config(gpu="t4", workload="trace:my file.csv", max_context="100:clip", slo=["e2e=3"])
    saved = config_from(config_document(given))
    assert command(saved) == command(given)
    assert shlex.split(command(saved))[5] == "trace:my file.csv"
