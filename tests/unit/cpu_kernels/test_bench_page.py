"""The document and the page of a run: what is in them, when it is void, where it is written."""

import json
from pathlib import Path
from typing import Any

import pytest

from apexbench.cpu_kernels.bench import page
from apexbench.cpu_kernels.bench.document import Findings
from apexbench.cpu_kernels.bench.samples import Pass, Probe, Rate, Repeat
from apexbench.cpu_kernels.bench.scope import shape_of
from apexbench.cpu_kernels.bench.speed import compare, row_of
from apexbench.errors import InputError

REQUIRED = {
    *("isa", "kv_dtype", "gqa_group", "head_dim", "block_size", "batch", "context", "threads"),
    *("gbps", "ratio_to_read_limit", "spread"),
}


class Kernel:
    """What row_of asks of a contestant."""

    def __init__(self, isa: str, kv_dtype: str, bytes_per_token: int) -> None:
        self.isa = isa
        self.kv_dtype = kv_dtype
        self.num_tokens = 1000
        self.huge_page_fraction = 0.5
        self.kv_bytes = 1000 * bytes_per_token


def rate_of(*gbps: float, limit: float = 40.0, preemptions: int = 0) -> Rate:
    probe = Probe({"plain": limit})
    return Rate(tuple(Repeat(Pass(1.0, int(one * 1e9)), probe, probe, preemptions) for one in gbps))


def row(kernel: Kernel, rate: Rate, threads: int = 1) -> dict[str, Any]:
    return row_of(shape_of(4, 64, 16, 2048), kernel, threads, rate)  # type: ignore[arg-type]


@pytest.fixture
def findings() -> Findings:
    """A run with one kernel and one peer that is not installed."""
    circumstances = {
        "cpu": "some CPU",
        "cpus_allowed": [0, 1],
        "cpus_online": 2,
        "governor": None,
        "cgroup_quota_cpus": None,
        "load_average": [0.1, 0.2, 0.3],
        "levels": ["avx2"],
        "compiler": "cc 1.0",
        "scope": "quick",
        "repeats": 5,
    }
    found = Findings(circumstances)
    readers = {name: {"gbps": 40.0, "spread": 0.0} for name in ("plain", "prefetch", "numpy")}
    tuning = {"prefetch_streams": 2, "prefetch_distance_bytes": 512}
    found.read_limits[1] = {"gbps": 40.0, "readers": readers} | tuning
    found.rows.append(row(Kernel("avx2", "fp16", 4096), rate_of(10, 20, 30, 20, 20)))
    found.peers.append({"name": "other", "kv_dtype": "fp16", "gqa_group": 4, "unavailable": "no"})
    found.ended_early = None
    return found


def test_a_row_has_what_the_document_promises(findings: Findings) -> None:
    found = findings.rows[0]
    assert set(found) >= REQUIRED
    assert (found["gbps"], found["ratio_to_read_limit"]) == (20.0, 0.5)
    assert found["tokens_per_s"] == pytest.approx(20e9 / 4096)
    assert found["seconds_per_job"] == pytest.approx(1000 * 4096 / 20e9)


def test_the_document_is_json_with_read_limits_by_threads(findings: Findings) -> None:
    found = json.loads(findings.to_json())
    assert found["read_limit_gbps"] == {"1": 40.0}
    assert found["is_valid"]
    assert found["is_complete"]
    assert found["warnings"] == []
    assert set(found["rows"][0]) >= REQUIRED


def test_a_kernel_faster_than_memory_voids_the_run(findings: Findings) -> None:
    findings.rows.append(row(Kernel("avx2", "fp16", 4096), rate_of(*[41.2] * 5)))
    assert not findings.is_valid
    (warning,) = findings.warnings()
    assert warning.startswith("this run is void: 1 measurements exceed the read limit")
    assert "1.030" in warning


def test_a_run_that_was_interrupted_says_so(findings: Findings) -> None:
    findings.ended_early = "interrupted"
    assert findings.warnings() == ["interrupted: what was not measured is missing"]
    assert not json.loads(findings.to_json())["is_complete"]


def test_passes_that_others_disturbed_are_mentioned_when_many(findings: Findings) -> None:
    findings.rows.append(row(Kernel("avx2", "int8", 2080), rate_of(*[10] * 5, preemptions=2)))
    assert findings.preempted_share == pytest.approx(0.5)
    assert findings.warnings()[0].startswith("other programs took a CPU during 50%")
    findings.rows += [findings.rows[0]] * 8
    assert findings.warnings() == []


def test_comparisons_are_of_tokens_and_pair_by_pair() -> None:
    rates = [rate_of(20, 10), rate_of(10, 5), rate_of(30, 30), rate_of(15, 20)]
    kernels = [
        Kernel("avx2", "fp16", 4096),
        Kernel("avx2", "int8", 2048),
        Kernel("avx512", "fp16", 4096),
        Kernel("avx512", "int8", 2048),
    ]
    rows = [row(kernel, rate) for kernel, rate in zip(kernels, rates, strict=True)]
    found = {
        (one["candidate"], one.get("isa"), one.get("kv_dtype")): one["ratio"]
        for one in compare(rows, rates)
    }
    assert found == {
        ("int8", "avx2", None): pytest.approx(1.0),
        ("int8", "avx512", None): pytest.approx((1.0 + 4 / 3) / 2),
        ("avx2", None, "fp16"): pytest.approx((2 / 3 + 1 / 3) / 2),
        ("avx2", None, "int8"): pytest.approx((2 / 3 + 1 / 4) / 2),
    }


def test_the_page_has_a_line_for_every_row_and_every_peer(findings: Findings) -> None:
    found = page.render(findings)
    assert "| GQA-4 | 64    | 16 x 2048     | fp16 | avx2  | 1       | 20.0 | 0.50" in found
    assert "| other | GQA-4 | fp16 |" in found
    assert "huge pages at least 50% of KV" in found
    assert "### Small jobs" not in found


def test_a_void_run_says_so_on_the_page(findings: Findings) -> None:
    findings.rows.append(row(Kernel("avx2", "fp16", 4096), rate_of(*[50] * 5)))
    assert "**this run is void" in page.render(findings)


def test_tables_are_as_wide_as_their_longest_cell() -> None:
    columns = [("a", lambda row: row["a"]), ("long name", lambda row: row["b"])]
    assert page.table(columns, [{"a": "1234", "b": "5"}]) == (
        "| a    | long name |\n|------|-----------|\n| 1234 | 5         |"
    )


def test_only_what_stands_between_the_marks_is_replaced(findings: Findings, tmp_path: Path) -> None:
    target = tmp_path / "page.md"
    target.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        page.write_into(target, findings)
        text = target.read_text(encoding="utf-8")
        assert text.startswith(f"before\n{page.BEGIN}\n")
        assert text.endswith(f"{page.END}\nafter\n")
        assert text.count("some CPU") == 1
        assert "old" not in text


@pytest.mark.parametrize("text", ["", page.BEGIN, f"{page.END}{page.BEGIN}", None])
def test_a_page_without_marks_is_refused_before_anything_runs(
    text: str | None, tmp_path: Path
) -> None:
    target = tmp_path / "page.md"
    if text is not None:
        target.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"marks|cannot read"):
        page.check_marks(target)


def test_the_page_on_cpu_kernels_can_be_written_into() -> None:
    page.check_marks(Path(__file__).parents[3] / "docs" / "cpu-kernels.md")
