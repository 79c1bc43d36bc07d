"""Waiting for a time in C, and the stamps of jobs."""

import time
from pathlib import Path

import numpy as np
import pytest

from apexbench.cpu_kernels import Job, KvCache, KvGeometry, Pool, is_compiled
from apexbench.cpu_kernels.deadline import stamp_callback, wait_until
from apexbench.errors import InputError
from tests.c.driver_builds import MissingToolError, Variant, build_driver, run_driver

VARIANTS = (
    Variant("gcc", "thread"),
    Variant("clang", "thread"),
    Variant("gcc", "address,undefined"),
    Variant("clang", "address,undefined"),
    Variant("aarch64-linux-gnu-gcc"),
)
compiled_only = pytest.mark.skipif(not is_compiled(), reason="UNPROVEN: needs the library")


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_deadlines_and_stamps_are_clean(variant: Variant, tmp_path: Path) -> None:
    try:
        program = build_driver("check_deadline", variant, tmp_path)
        done = run_driver(program, variant)
    except MissingToolError as missing:
        pytest.skip(f"UNPROVEN: check_deadline with {variant}: {missing}")
    assert done.returncode == 0, done.stdout
    assert done.stdout == "0 failures\n"


@compiled_only
@pytest.mark.parametrize("spin_ns", [0, 10_000, 10_000_000])
def test_it_returns_after_the_deadline_and_says_when(spin_ns: int) -> None:
    deadline = time.monotonic_ns() + 100_000
    woke = wait_until()(deadline, spin_ns)
    assert deadline <= woke <= time.monotonic_ns()


@compiled_only
def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    now = time.monotonic_ns()
    assert now <= wait_until()(now - 10**9, 1000) <= time.monotonic_ns()


@compiled_only
def test_a_job_is_stamped_when_it_is_done() -> None:
    geometry = KvGeometry(1, 1, 1, 16, 16, "fp32")
    stamp = np.zeros(1, np.int64)
    q, out = (np.zeros((1, 1, 16), np.float32) for _ in range(2))
    with Pool(1, is_pinned=False) as pool, KvCache(geometry, pool) as cache:
        job = Job(cache).prepare([[0]], [16], 1, "fp32", 1.0)
        submission = job.bind(q, out)
        submission.notify(callback=stamp_callback(), user=stamp.ctypes.data)
        for _ in range(3):
            before = time.monotonic_ns()
            pool.launch(submission, 0).wait()
            assert before <= stamp[0] <= time.monotonic_ns()


@pytest.mark.parametrize("make", [wait_until, stamp_callback])
def test_without_the_library_one_sentence_says_so(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APEXBENCH_CPU_KERNELS", "fallback")
    with pytest.raises(InputError, match="compiled CPU kernels"):
        make()
