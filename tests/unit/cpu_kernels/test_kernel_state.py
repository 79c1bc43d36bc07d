"""What `doctor` says of the CPU kernels: compiled, the fallback, or why they cannot be used."""

from pathlib import Path

import pytest

from apexbench.cli.doctor import check_cpu_kernels
from apexbench.cpu_kernels import isa
from apexbench.cpu_kernels.native import FALLBACK, VARIABLE, Library


def test_a_compiled_library_is_named_with_its_level(compiled: Library) -> None:
    finding = check_cpu_kernels()
    assert finding.state == "ok"
    assert finding.detail.startswith(f"{isa()} of reference")
    assert finding.detail.endswith(f"compiled by {compiled.compiler}")


def test_the_fallback_is_a_note_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, FALLBACK)
    finding = check_cpu_kernels()
    assert finding.state == "note"
    assert "times slower" in finding.detail


def test_a_library_that_cannot_be_used_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "absent.so"))
    finding = check_cpu_kernels()
    assert finding.state == "note"
    assert "absent.so cannot be loaded" in finding.detail
    assert finding.detail.endswith("run: python -m apexbench.cpu_kernels.build")
