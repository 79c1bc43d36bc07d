"""Reading the page's config: what it becomes, and one sentence for everything that is wrong."""

from pathlib import Path

import pytest

from apexbench.errors import ApexbenchError, InputError, UsageError
from apexbench.paper.plan import load
from apexbench.paper.studies import prepare


def write(directory: Path, text: str) -> Path:
    path = directory / "paper.toml"
    path.write_text(text)
    return path


def test_defaults_fill_what_a_run_leaves_out(tmp_path: Path, config_text: str) -> None:
    plan = load(write(tmp_path, config_text))
    one, assumed, loaded = plan.runs
    assert (one.requests, one.draws, one.seeds, one.rates) == (50, 3, 1, ("inf",))
    assert assumed.policies == ("apex", "static:deferred")
    assert (loaded.rates, loaded.seeds, loaded.has_backlog) == (("0.8x",), 2, False)


def test_a_sweep_is_one_run_per_capacity_in_their_order(tmp_path: Path, config_text: str) -> None:
    text = config_text.replace("requests = 50", "requests = 50\ndraws = 4")
    plan = load(write(tmp_path, text))
    assert plan.runs[1].draws == 4
    points = [(run.id, run.gpu_kv_tokens, run.draws) for run in plan.sweeps[0].runs]
    assert points == [("kv:1000", 1000, 0), ("kv:2000", 2000, 0)]
    assert plan.cited_runs == (*plan.runs, *plan.sweeps[0].runs)


def test_our_policies_run_apart_from_what_claims_refer_to(tmp_path: Path, config_text: str) -> None:
    text = config_text.replace("requests = 50", 'requests = 50\nours = ["static:in_layer"]')
    plan = load(write(tmp_path, text))
    assert not any("static:in_layer" in run.policies for run in plan.runs)
    own = [(run.id, run.policies, run.draws, run.requests) for run in plan.own_runs.values()]
    assert own == [
        ("one:ours", ("static:in_layer",), 0, 50),
        ("assumed:ours", ("static:in_layer",), 0, 50),
    ]
    assert all("static:in_layer" in run.policies for run in plan.sweeps[0].runs)
    assert {run.id for run in plan.all_runs} - {run.id for run in plan.cited_runs} == {
        "one:ours", "assumed:ours"
    }  # fmt: skip


MISTAKES = [
    ('title = "A small page"', "title = ", "is not valid TOML"),
    ('title = "A small page"', "", "title: Field required"),
    ('title = "A small page"', 'title = "x"\ncolour = 1', "colour: Extra inputs"),
    ("requests = 50", "requests = 0", "defaults.requests: Input should be greater"),
    ("seeds = 2", "seeds = true", "runs.2.seeds: Input should be a valid integer"),
    ("low = 1", 'low = "x"', "claims.0.low: Input should be a valid number"),
    ("low = 1", "low = 3", "claim 'gain': low 3 is above high 2"),
    ("high = 2", "", "claim 'gain': test 'gain' needs the key 'high'"),
    ('candidate = "apex"\n', "", "claim 'gain': test 'gain' needs the key 'candidate'"),
    ('candidate = "apex"', 'candidate = "neo"', "run 'assumed' does not run policy 'neo'"),
    ('rates = ["0.8x"]\nread', 'rates = ["1x"]\nread', "run 'load' does not run rate '1x'"),
    ('runs = ["load"]', 'runs = ["lod"]', "there is no run 'lod'; runs are one, assumed"),
    ('id = "assumed"', 'id = "one"', "two runs are called 'one'"),
    ('id = "kept"', 'id = "gain"', "two claims are called 'gain'"),
    ('paper = "apex"', 'paper = "vllm"', "there is no paper 'vllm' in [papers]"),
    ('test = "gain"', 'test = "cpu_share"\n', "no run is on GPU 'x9'"),
    ("requests = 50", 'requests = 50\nours = ["apex"]', "policies of 'ours' never enter a claim"),
    ('test = "gain"', 'test = "kernel"', "test 'kernel' needs 2 runs"),
]


@pytest.mark.parametrize(("old", "new", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence_that_names_the_file(
    tmp_path: Path, config_text: str, old: str, new: str, sentence: str
) -> None:
    text = config_text.replace(old, new, 1)
    if "x9" in sentence:
        text = text.replace('gpu = "l4"\nworkload = "any"', 'gpu = "x9"\nworkload = "any"', 1)
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read paper config .*No such file"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("old", "new", "kind", "sentence"),
    [
        ('"neo"', '"neoo"', UsageError, "unknown policy 'neoo'; did you mean neo?"),
        ('"chat"', '"chatt"', UsageError, "unknown workload 'chatt'; did you mean chat?"),
        ('gpu = "l4"\nhost', 'gpu = "l44"\nhost', UsageError, "unknown gpu 'l44'"),
        ('rates = ["0.8x"]', 'rates = ["fast"]', UsageError, "--rate must be positive"),
        ("gpu_kv_tokens = [2000", "gpu_kv_tokens = [3", UsageError, "--gpu-kv-tokens is 3"),
    ],
)
def test_names_are_resolved_before_anything_runs(
    tmp_path: Path, config_text: str, old: str, new: str, kind: type[ApexbenchError], sentence: str
) -> None:
    text = config_text.replace(old, new, 1)
    if "fast" in new:
        text = text.replace('rates = ["0.8x"]', 'rates = ["fast"]')
    plan = load(write(tmp_path, text))
    with pytest.raises(kind) as caught:
        prepare(plan, None)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("run '")


def test_jobs_are_checked_as_if_typed(tmp_path: Path, config_text: str) -> None:
    plan = load(write(tmp_path, config_text))
    with pytest.raises(UsageError, match="--jobs must be a whole number of at least 1, got '0'"):
        prepare(plan, "0")
