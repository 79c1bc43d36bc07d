"""What only whole processes show: kills, forks, exits and Ctrl-C while jobs are in flight."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from apexbench.cpu_kernels.native import Library

pytestmark = pytest.mark.usefixtures("compiled")

# One block over and over: about half a second of work for the reference level in a few KiB.
SETUP = """
import os, signal, sys, threading
import numpy as np
from apexbench.cpu_kernels import Job, KvCache, KvGeometry, Pool
from apexbench.errors import UsageError

cache = KvCache(KvGeometry(1, 4, 2, 32, 16))
tables = np.zeros((1, 1 << 14), np.int32)
q = np.ones((1, 4, 32), np.float16)

def long_job():
    return Job(cache).prepare(tables, [1 << 18], 4, "fp16", 0.2)

def short_job():
    return Job(cache).prepare(tables, [16], 4, "fp16", 0.2)

def refused(call, words):
    try:
        call()
    except UsageError as error:
        assert words in str(error), str(error)
    else:
        raise AssertionError(f"not refused: {words}")

pool = Pool(2)
"""
BEGUN = "begun"
# No limit on speed: a process that hangs must fail its test.
HANGS_S = 300


@contextmanager
def started(code: str, first: str = "") -> Iterator[subprocess.Popen[str]]:
    """A Python process: `first`, SETUP, `code`; ended at the latest at the end of the block."""
    environment = os.environ | {"APEXBENCH_ISA": "reference"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", first + SETUP + code],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # a child of it may hang too
        process.communicate()


def finished(code: str, first: str = "") -> str:
    """What the code printed; it must exit with 0 and say nothing on standard error."""
    with started(code, first) as process:
        out, err = process.communicate(timeout=HANGS_S)
        assert (process.returncode, err) == (0, "")
        return out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_can_be_killed_while_jobs_are_in_flight(number: signal.Signals) -> None:
    code = """
tickets = [pool.submit(long_job(), 0, q, q.copy()) for _ in range(20)]
print("begun", flush=True)
for ticket in tickets:
    ticket.wait()
print("done", flush=True)
"""
    with started(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == BEGUN
        process.send_signal(number)
        out, err = process.communicate(timeout=HANGS_S)
    assert (process.returncode, out, err) == (-number, "", "")


def test_ctrl_c_ends_a_wait_at_once_and_the_pool_goes_on() -> None:
    code = """
out = np.full_like(q, np.nan)
tickets = [pool.submit(long_job(), 0, q, q.copy()) for _ in range(4)]
try:
    print("begun", flush=True)
    tickets[-1].wait()
except KeyboardInterrupt:
    assert not tickets[-1].done, "the wait was not interrupted but ended"
    print("interrupted")
for ticket in tickets[1:]:
    ticket.cancel()
pool.run(short_job(), 0, q, out)
assert np.isfinite(out).all()
assert tickets[0].wait()
"""
    with started(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == BEGUN
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANGS_S)
    assert (process.returncode, out, err) == (0, "interrupted\n", "")


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(0)",
        "del pool",
        "del cache, tickets",
        "threading.Thread(target=tickets[0].wait).start()",
        "threading.Thread(target=tickets[-1].cancel, daemon=True).start()",
        "os._exit(0)",
    ],
)
def test_an_interpreter_may_end_while_jobs_are_in_flight(end: str) -> None:
    code = f"""
tickets = [pool.submit(long_job(), 0, q, q.copy()) for _ in range(3)]
print("begun", flush=True)
{end}
"""
    assert finished(code) == "begun\n"


def test_a_child_cannot_use_the_pool_but_make_its_own() -> None:
    code = """
expected = q.copy()
pool.run(short_job(), 0, q, expected)
job, out = long_job(), q.copy()
bound = short_job().bind(q, q.copy())
ticket = pool.submit(job, 0, q, out)
pid = os.fork()
if not pid:
    words = "the pool belongs to the parent process"
    refused(lambda: pool.launch(bound, 0), words)
    refused(ticket.wait, words)
    refused(lambda: ticket.done, words)
    refused(ticket.cancel, words)
    refused(lambda: pool.touch(cache.memory), words)
    prepare = lambda: job.prepare(tables, [1], 4, "fp16", 0.2)
    refused(prepare, "in flight when this process was forked")
    with Pool(2) as own:
        mine = q.copy()
        own.run(short_job(), 0, q, mine)
        assert np.array_equal(mine, expected)
    pool.close()
    cache.close()
    print("child", flush=True)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert ticket.wait()
again = q.copy()
pool.run(short_job(), 0, q, again)
assert np.array_equal(again, expected)
print("parent", flush=True)
"""
    assert finished(code) == "child\nparent\n"


def test_a_fork_while_another_thread_is_in_the_pool_leaves_no_lock() -> None:
    code = """
bound = short_job().bind(q, q.copy())
held, release = threading.Event(), threading.Event()
def hold():
    with pool._workers._lock:
        held.set()
        release.wait()
holder = threading.Thread(target=hold)
holder.start()
held.wait()
pid = os.fork()
if not pid:
    refused(lambda: pool.launch(bound, 0), "the pool belongs to the parent process")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
release.set()
holder.join()
pool.launch(bound, 0).wait()
print("parent")
"""
    assert finished(code) == "parent\n"


def test_at_exit_what_runs_is_ended_and_the_rest_cancelled() -> None:
    code = """
outs = [np.full_like(q, np.nan) for _ in range(6)]
tickets = [pool.submit(long_job(), 0, q, out) for out in outs]
tickets[0].wait()
"""
    first = """
import atexit
def check():
    assert all(ticket.done for ticket in tickets)
    assert [ticket.is_cancelled for ticket in tickets] == [np.isnan(out).any() for out in outs]
    assert tickets[-1].is_cancelled
    refused(lambda: pool.submit(short_job(), 0, q, q.copy()), "the pool is closed")
    print("checked")
atexit.register(check)  # the first to be registered is the last to be called
"""
    assert finished(code, first) == "checked\n"


def test_many_threads_share_a_pool() -> None:
    code = """
expected = q.copy()
pool.run(short_job(), 0, q, expected)
def work():
    job, out = short_job(), q.copy()
    bound = job.bind(q, out)
    for _ in range(200):
        out[:] = 0
        pool.launch(bound, 0).wait()
        assert np.array_equal(out, expected)
    results.append(True)
results = []
threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(results))
"""
    assert finished(code) == "6\n"


def test_a_pool_larger_than_the_machine_ends_like_any_other(compiled: Library) -> None:
    code = """
wide = Pool(64)
assert wide.num_threads == 64
out = np.full_like(q, np.nan)
wide.run(long_job(), 0, q, out)
assert np.isfinite(out).all()
wide.submit(long_job(), 0, q, out)
print("begun")
"""
    assert finished(code) == "begun\n"
