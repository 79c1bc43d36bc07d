"""The curves of a measured host's file: which one is taken, and what is refused."""

from pathlib import Path

import pytest

from apexbench.engine.hardware import load_host
from apexbench.engine.measured_attention import MeasuredAttention
from apexbench.errors import InputError, UsageError
from apexbench.profiling.profile import profiled, to_toml
from tests.host_measurements import measurements


@pytest.fixture
def text() -> str:
    """A profile as it is written."""
    base = load_host("g6.4xlarge")
    return to_toml(profiled("mine", measurements(), base, created_at="2026-01-02", version="1"))


def attention(tmp_path: Path, text: str) -> MeasuredAttention:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    found = load_host(str(path)).attention
    assert found is not None
    return found


def test_the_nearest_group_is_taken_by_ratio(tmp_path: Path, text: str) -> None:
    found = attention(tmp_path, text)
    groups = {wanted: found.curve("fp16", wanted, 1).gqa_group for wanted in (1, 1.9, 2, 2.4, 7, 8)}
    assert groups == {1: 1, 1.9: 1, 2: 1, 2.4: 4, 7: 4, 8: 4}
    assert found.dtypes == ("fp16", "int8")
    assert found.most_threads == 2


def test_between_two_numbers_of_threads_is_an_inference(tmp_path: Path, text: str) -> None:
    found = attention(tmp_path, text.replace("threads = 2\n", "threads = 5\n"))
    one, three, five = (found.curve("fp16", 1, threads) for threads in (1, 3, 5))
    assert three.threads == 3
    for name in ("gb_per_s", "row_us", "dispatch_us"):
        ends = [getattr(curve, name).value for curve in (one, five)]
        between = getattr(three, name)
        assert between.value == pytest.approx(sum(ends) / 2)
        assert between.kind == "inferred"
        assert between.sigma >= 0.1
    assert three.factors == pytest.approx(
        [sum(pair) / 2 for pair in zip(one.factors, five.factors, strict=True)]
    )
    assert one.gb_per_s.kind == "measured"


def test_what_was_not_measured_is_refused(tmp_path: Path, text: str) -> None:
    found = attention(tmp_path, text)
    with pytest.raises(UsageError, match="not measured with bf16 KV, only with fp16, int8; run"):
        found.curve("bf16", 1, 1)
    with pytest.raises(UsageError, match="with 1 to 2 threads, not 3; pass --cpu-threads within"):
        found.curve("fp16", 1, 3)


def test_no_more_threads_than_were_measured_by_default(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("cores = { value = 2,", "cores = { value = 8,"))
    assert load_host(str(path)).default_threads == 2


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("gqa_group = 1\n", "gqa_group = 0\n", "'gqa_group' is 0; expected at least 1"),
        ("threads = 1\n", "threads = true\n", "'threads' is True; expected at least 1"),
        ("threads = 1\n", "", "key 'threads' is missing"),
        ("threads = 1\n", "thread = 1\n", "unknown key 'thread'; did you mean threads"),
        ("dtype = \"fp16\"\n", "dtype = 3\n", "key 'dtype' is 3; expected a str"),
        ("tokens = [16, 96,", "tokens = [96, 16,", "key 'tokens' must ascend"),
        ("tokens = [16, 96,", "tokens = [16,", "'factors' has 5 numbers; expected one for each"),
        ("tokens = [16, 96,", "tokens = [-16, 96,", "'tokens' must be a list of positive numbers"),
        ("tokens = [16, 96,", "tokens = ['x', 96,", "'tokens' must be a list of positive numbers"),
        ("tokens = [16, 96, 288, 1056, 4128]", "tokens = []", "must be a list of positive numbers"),
        ("threads = 2\n", "threads = 1\n", "dtype fp16, gqa_group 1 and 1 threads twice; keep one"),
        ("gb_per_s = { value = 2", "gb_per_s = { value = -2", "finite number, not negative"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_sentence(
    tmp_path: Path, text: str, old: str, new: str, sentence: str
) -> None:
    head, mark, tables = text.partition("[[attention]]")
    assert old in tables
    with pytest.raises((InputError, UsageError), match=sentence.replace("[", r"\[")):
        attention(tmp_path, head + mark + tables.replace(old, new, 1))


@pytest.mark.parametrize("wrong", ["attention = 3\n", "attention = []\n", "attention = [1]\n"])
def test_attention_must_be_tables(tmp_path: Path, text: str, wrong: str) -> None:
    head = text.partition("[[attention]]")[0]
    with pytest.raises(InputError, match="'attention' must be a list of tables"):
        attention(tmp_path, wrong + head)


def test_only_hosts_have_measured_kernels(tmp_path: Path, text: str) -> None:
    from apexbench.engine.hardware import load_cpu_kernel

    path = tmp_path / "kernel.toml"
    path.write_text(text.replace('role = "host"', 'role = "kernel"'))
    with pytest.raises(InputError, match="unknown key 'attention'"):
        load_cpu_kernel(str(path))
