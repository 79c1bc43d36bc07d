"""The bench's readers and timed calls under the sanitizers, through a C program of their own."""

from pathlib import Path

import pytest

from tests.c.driver_builds import MissingToolError, Variant, build_driver, run_driver

VARIANTS = (
    Variant("gcc", "thread"),
    Variant("clang", "address,undefined"),
    Variant("aarch64-linux-gnu-gcc"),
)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_readers_and_timed_calls_are_clean(variant: Variant, tmp_path: Path) -> None:
    try:
        program = build_driver("check_readers", variant, tmp_path)
        done = run_driver(program, variant)
    except MissingToolError as missing:
        pytest.skip(f"UNPROVEN: check_readers with {variant}: {missing}")
    assert done.returncode == 0, done.stdout
    assert done.stdout == "0 failures\n"
