"""What is read of the system about it, from files as different systems have them."""

import json
from pathlib import Path

import pytest

from apexbench.cpu_kernels.bench import machine


def test_circumstances_can_be_written_and_name_the_cpu() -> None:
    found = machine.describe_machine()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["cpus_allowed"]
    assert set(found["versions"]) == {"apexbench", "numpy", "python"}


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("32768K", 32 << 20), ("1M", 1 << 20), ("512", 512), ("2G", 2 << 30), ("", 0), ("3 KB", 0)],
)
def test_sizes_of_caches(text: str, num_bytes: int) -> None:
    assert machine.parse_size(text) == num_bytes


@pytest.mark.parametrize(
    ("text", "cpus"), [("150000 100000", 1.5), ("max 100000", None), ("", None), ("5 0", None)]
)
def test_the_quota_of_the_unified_hierarchy(text: str, cpus: float | None, tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    path.write_text(text, encoding="utf-8")
    assert machine.read_quota(path, tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("200000", 2.0), ("-1", None)])
def test_the_quota_of_the_legacy_hierarchy(quota: str, cpus: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota, encoding="utf-8")
    (tmp_path / "cpu.cfs_period_us").write_text("100000", encoding="utf-8")
    assert machine.read_quota(tmp_path / "none", tmp_path) == cpus
