"""The kernels and the pool under AddressSanitizer, UBSan and ThreadSanitizer, and NEON under qemu.

Through C programs of their own: a sanitized library inside an unsanitized Python aborts.
"""

import platform
from pathlib import Path

import pytest

from tests.c.driver_builds import MissingToolError, Variant, build_driver, run_driver

MEMORY = "address,undefined"
COMPILERS = ("gcc", "clang")

# Of the thousands of cases, every N-th. The strides have no factor in common with the lengths of
# the lists that cases are drawn from, so that every value of each comes up.
PLAIN_STRIDE, SANITIZED_STRIDE, QEMU_STRIDE = "7", "37", "101"
CPU_WITHOUT_DOT_PRODUCTS = "cortex-a53"


def built(driver: str, variant: Variant, folder: Path) -> Path:
    """The driver's program; skips where a compiler is missing."""
    try:
        return build_driver(driver, variant, folder)
    except MissingToolError as missing:
        pytest.skip(f"UNPROVEN: {driver}, {variant.sanitizer or 'plain'}: {missing}")


def passes(program: Path, variant: Variant, *arguments: str, emulated_cpu: str = "max") -> None:
    """Fails with what the driver printed; skips where the emulator is missing."""
    try:
        done = run_driver(program, variant, arguments, emulated_cpu)
    except MissingToolError as missing:
        pytest.skip(f"UNPROVEN: {program.name} for {variant.machine}: {missing}")
    assert done.returncode == 0, done.stdout


def test_every_level_is_right_on_hostile_data(tmp_path):
    variant = Variant("gcc")
    passes(built("check_kernels", variant, tmp_path), variant, "--stride", PLAIN_STRIDE)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_kernels_are_clean_under_asan_and_ubsan(compiler, tmp_path):
    variant = Variant(compiler, MEMORY)
    passes(built("check_kernels", variant, tmp_path), variant, "--stride", SANITIZED_STRIDE)


@pytest.mark.parametrize("sanitizer", ["thread", MEMORY])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_pool_is_clean_under_sanitizers(compiler, sanitizer, tmp_path):
    variant = Variant(compiler, sanitizer)
    passes(built("check_pool", variant, tmp_path), variant, str(tmp_path))


@pytest.mark.skipif(platform.machine() == "aarch64", reason="native there, not under qemu")
def test_neon_level_is_right_under_qemu(tmp_path):
    variant = Variant("aarch64-linux-gnu-gcc")
    program = built("check_kernels", variant, tmp_path)
    for cpu in ("max", CPU_WITHOUT_DOT_PRODUCTS):
        passes(program, variant, "--stride", QEMU_STRIDE, emulated_cpu=cpu)
