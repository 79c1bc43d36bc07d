"""Where values come from, what is refused, and that everything wrong is said at once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.config import (
    DEFAULT_POLICIES,
    DEFAULT_RATES,
    KEYS,
    OTHER_VARIABLES,
    CompareConfig,
    Rate,
    locate,
    parse_rate,
    resolve,
)
from apexbench.errors import InputError, UsageError

RATE_MUST_BE = "--rate must be positive requests per second, 'inf', or multiples such as '0.8x'"


def problems_of(
    cli: dict[str, object] | None = None,
    env: dict[str, str] | None = None,
    file: Path | None = None,
) -> list[str]:
    with pytest.raises(UsageError) as caught:
        resolve(cli or {}, env or {}, file)
    return str(caught.value).splitlines()


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "apexbench.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults() -> None:
    config = resolve({}, {}, None)
    assert config.policies == DEFAULT_POLICIES
    assert config.rate == DEFAULT_RATES
    assert (config.seeds, config.seed, config.gpu_memory_utilization) == (3, 0, 0.95)
    assert config.gpu is None
    assert set(config.provenance.values()) == {"default"}


def test_each_source_yields_to_the_one_above_it(tmp_path: Path) -> None:
    file = write(tmp_path, 'seeds = 4\nhost = "file"\nmodel = "file"\nworkload = "osc"\n')
    env = {"APEXBENCH_SEEDS": "5", "APEXBENCH_HOST": "env", "APEXBENCH_ISA": "avx2", "HOME": "/"}

    def preset(workload: str) -> dict[str, object]:
        return {"seeds": 9, "requests": 77, "model": workload}

    config = resolve({"seeds": 6}, env, file, preset)
    assert (config.seeds, config.host, config.model, config.requests) == (6, "env", "file", 77)
    assert config.provenance["seeds"] == "--seeds"
    assert config.provenance["host"] == "APEXBENCH_HOST"
    assert config.provenance["model"] == "model in apexbench.toml"
    assert config.provenance["requests"] == "preset osc"
    assert config.provenance["jobs"] == "default"


def test_tables_are_merged_name_by_name(tmp_path: Path) -> None:
    file = write(tmp_path, "[slo]\nttft = 9\ne2e = 60\n[thresholds]\nmin_cpu_rows = 2\n")
    cli = {"slo": ["ttft=2"], "thresholds": ["join_mode=poll", "offload_gain_margin=1e-1"]}
    config = resolve(cli, {"APEXBENCH_SLO": "tpot=0.2,ttft=3"}, file)
    assert config.slo == {"ttft": 2.0, "tpot": 0.2, "e2e": 60.0}
    assert config.thresholds == {"min_cpu_rows": 2, "join_mode": "poll", "offload_gain_margin": 0.1}
    assert config.provenance["slo.ttft"] == "--slo"
    assert config.provenance["slo.tpot"] == "APEXBENCH_SLO"
    assert config.provenance["thresholds.join_mode"] == "--set"


@pytest.mark.parametrize("nothing", [None, False, "", (), [], {}])
def test_what_was_not_typed_does_not_override(nothing: object, tmp_path: Path) -> None:
    file = write(tmp_path, 'quiet = true\nrate = ["1x"]\n')
    config = resolve({"quiet": nothing, "rate": nothing}, {"APEXBENCH_RATE": ""}, file)
    assert config.quiet
    assert config.rate == ("1x",)


def test_zero_typed_counts_as_typed() -> None:
    assert resolve({"seed": 0}, {"APEXBENCH_SEED": "7"}, None).seed == 0
    assert problems_of({"seeds": 0}) == [
        "--seeds must be a whole number of at least 1 (how many seeds), got 0"
    ]


@pytest.mark.parametrize(
    "given_rates", [["0.8x,inf", "2.50"], "0.8x, inf ,2.5", ["0.8x", "inf", 2.5, "0.80x"]]
)
def test_rates_repeat_or_join_with_commas(given_rates: object) -> None:
    config = resolve({"rate": given_rates}, {}, None)
    assert config.rate == ("0.8x", "inf", "2.5")
    assert config.rates == (Rate("0.8x", multiple=0.8), Rate("inf"), Rate("2.5", rps=2.5))


@given(st.floats(min_value=1e-6, max_value=1e9), st.sampled_from(["", "x"]))
def test_rate_label_means_what_it_says(value: float, unit: str) -> None:
    rate = parse_rate(f"{value!r}{unit}")
    assert parse_rate(rate.label) == rate
    assert (rate.multiple if unit else rate.rps) == value
    assert (rate.rps if unit else rate.multiple) is None


@pytest.mark.parametrize("rate", ["nan", "-1", "0", "0x", "-0.5x", "x", "fast", "infx", "1e999"])
def test_impossible_rates_are_one_sentence(rate: str) -> None:
    (problem,) = problems_of({"rate": [rate]})
    assert problem == f"{RATE_MUST_BE}, got '{rate}'"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", "0"), ("seeds", "-3"), ("seeds", "two"), ("seeds", True), ("seed", "-1"),
        ("requests", "0"), ("requests", "1.5"), ("duration", "0"), ("duration", "nan"),
        ("duration", "inf"), ("jobs", "0"), ("cpu_threads", "0"), ("gpu_kv_tokens", "-1"),
        ("gpu_memory_utilization", "0"), ("gpu_memory_utilization", "1.01"),
        ("gpu_memory_utilization", "nan"), ("weights", "int3"), ("cpu_kernel", "mkl"),
        ("max_context", "4096:cut"), ("max_context", "0"), ("max_context", "-1"),
        ("backend", "gpu"), ("cpu_kv_tokens", "0"), ("kv_dtype", "int8"), ("cpu_kv_dtype", "fp8"),
        ("dtype", "int8"), ("gpu_threads", "0"), ("policies", ","),
    ],
)  # fmt: skip
def test_values_out_of_range_are_one_sentence(key: str, value: object) -> None:
    (problem,) = problems_of({key: value})
    assert problem.startswith(f"--{key.replace('_', '-')} must be ")
    assert problem.endswith(f"got {value!r}") or key == "policies"


def test_a_backend_brings_defaults_that_anything_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, 'backend = "cpu"\nrate = "2"\n')
    config = resolve({}, {"APEXBENCH_POLICIES": "apex"}, file)
    assert (config.rate, config.policies, config.workload) == (("2",), ("apex",), "fixed:64/64")
    assert config.provenance["workload"] == "default of backend cpu"
    assert config.is_given("rate")
    assert not config.is_given("workload")
    assert resolve({"backend": "emulated"}, {}, None).rate == ("inf",)
    simulated = resolve({"backend": "sim"}, {}, None).model_dump()
    assert simulated == resolve({}, {}, None).model_dump()


def test_weights_of_a_modelled_gpu_are_fp16_unless_named() -> None:
    assert resolve({}, {}, None).weight_dtype == "fp16"
    assert resolve({"weights": "int4"}, {}, None).weight_dtype == "int4"
    with pytest.raises(UsageError, match="--weights dummy is for a real model"):
        _ = resolve({"weights": "dummy"}, {}, None).weight_dtype


@pytest.mark.parametrize(
    ("value", "resolved"),
    [("4096", "4096:drop"), (4096, "4096:drop"), ("4096:clip", "4096:clip")],
)
def test_max_context_is_completed(value: object, resolved: str) -> None:
    assert resolve({"max_context": value}, {}, None).max_context == resolved


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, "polices = ['neo']\njobs = 0\n[slo]\nlatency = 1\nttft = -1\n")
    env = {"APEXBENCH_GUP": "t4", "APEXBENCH_SEEDS": "none"}
    problems = problems_of({"rate": ["nan", "5", "-1"], "slo": ["tpot"]}, env, file)
    expected = [
        "unknown key in apexbench.toml 'polices'; did you mean policies?",
        "unknown slo target 'latency'",
        "unknown environment variable 'APEXBENCH_GUP'; did you mean APEXBENCH_GPU",
        "--slo must be name=value, got ['tpot']",
        f"{RATE_MUST_BE}, got 'nan'",
        f"{RATE_MUST_BE}, got '-1'",
        "APEXBENCH_SEEDS must be a whole number of at least 1 (how many seeds), got 'none'",
        "slo.ttft in apexbench.toml must be a positive number of seconds, got -1",
        "jobs in apexbench.toml must be a whole number of at least 1, got 0",
    ]
    assert len(problems) == len(expected)
    for sentence in expected:
        assert any(problem.startswith(sentence) for problem in problems), sentence


@pytest.mark.parametrize("value", ["a=nan", "a=inf", "=1", "a=", "a"])
def test_unusable_thresholds_are_refused(value: str) -> None:
    (problem,) = problems_of({"thresholds": [value]})
    assert problem.startswith("--set must be ")


@pytest.mark.parametrize("text", ["seeds =", "[slo", "\0", "seeds = 1\nseeds = 2"])
def test_file_that_is_not_toml_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"apexbench\.toml' is not valid TOML: [^\n]*$"):
        resolve({}, {}, write(tmp_path, text))


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read config file"):
        resolve({}, {}, tmp_path / name)


def test_braces_in_the_file_name_are_only_a_name(tmp_path: Path) -> None:
    file = tmp_path / "{key}.toml"
    file.write_text("jobs = 0")
    assert problems_of(file=file)[0].startswith("jobs in {key}.toml must be")


def test_file_is_found_by_option_then_variable_then_usual_name(tmp_path: Path) -> None:
    env = {"APEXBENCH_CONFIG": "env.toml"}
    assert locate(None, {}, tmp_path) is None
    usual = write(tmp_path, "")
    assert locate(None, {}, tmp_path) == usual
    assert locate(None, env, tmp_path) == Path("env.toml")
    assert locate(Path("cli.toml"), env, tmp_path) == Path("cli.toml")


@pytest.mark.parametrize("name", OTHER_VARIABLES)
def test_variables_with_other_purposes_are_not_keys(name: str) -> None:
    assert resolve({}, {name: "1"}, None) == resolve({}, {}, None)


def test_saved_configuration_is_json_and_resolves_to_itself(tmp_path: Path) -> None:
    cli: dict[str, object] = {"gpu": "t4", "rate": "0.8x,3", "slo": ["ttft=2"], "json": "-"}
    config = resolve(cli, {}, None)
    saved = json.loads(config.model_dump_json(by_alias=True))
    assert set(saved) == set(KEYS)
    again = resolve(saved, {}, None)
    assert again.model_dump() == config.model_dump()


def test_configuration_is_frozen() -> None:
    config = CompareConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.seeds = 4  # type: ignore[misc]
