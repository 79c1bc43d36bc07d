"""Pools, jobs and tickets: the same answers however asked for, every misuse a sentence."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from apexbench.cpu_kernels import (
    Job,
    KvCache,
    KvGeometry,
    Pool,
    Priority,
    Ticket,
    decode_attention,
    force_isa,
    isa,
)
from apexbench.cpu_kernels.native import Library
from apexbench.errors import UsageError

ROWS, HEADS = 3, 4


def filled(cache: KvCache) -> None:
    rng = np.random.default_rng(0)
    for layer in range(cache.geometry.num_layers):
        k, v = (rng.standard_normal((384, 2, 32)).astype(np.float32) for _ in "kv")
        cache.store(layer, range(24), 0, k, v)


def queries(seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((ROWS, HEADS, 32)).astype(np.float16)


def prepared(cache: KvCache, **options: Any) -> Job:
    tables = [[0, 1, 2], [5, 3, 4], [6, 7, 8]]
    return Job(cache).prepare(tables, [48, 1, 33], HEADS, "fp16", 0.2, **options)


def long_job(cache: KvCache) -> Job:
    """A quarter of a second on the reference level, in little memory: one block, repeated."""
    tables = np.zeros((1, 1 << 13), np.int32)
    return Job(cache).prepare(tables, [1 << 17], HEADS, "fp16", 0.2)


def test_all_ways_to_ask_give_the_same_bits(cache: KvCache, pool: Pool) -> None:
    filled(cache)
    q, tables, lens = queries(), [[0, 1, 2], [5, 3, 4], [6, 7, 8]], [48, 1, 33]
    outs = [np.empty_like(q) for _ in range(4)]
    lses = [np.empty((ROWS, HEADS), np.float32) for _ in range(4)]
    job = prepared(cache)
    job.run_inline(1, q, outs[0], lse=lses[0])
    pool.run(job, 1, q, outs[1], lse=lses[1])
    bound = job.bind(q, outs[2], lse=lses[2])
    assert pool.launch(bound, 1, Priority.DEFERRED).wait(timeout_s=60)
    decode_attention(
        q, cache, 1, tables, lens, pool=pool, softmax_scale=0.2, out=outs[3], lse=lses[3]
    )
    assert len({out.tobytes() for out in outs}) == 1
    assert len({lse.tobytes() for lse in lses}) == 1
    assert np.isfinite(lses[0]).all()
    other_layer = decode_attention(q, cache, 0, tables, lens, softmax_scale=0.2)
    assert not np.array_equal(other_layer, outs[0])


def test_appending_stores_before_it_attends(cache: KvCache, pool: Pool) -> None:
    q, k, v = queries(), queries(1)[:, :2], queries(2)[:, :2]
    out = decode_attention(q, cache, 1, [[9], [2], [4]], [1, 1, 1], pool=pool, k_new=k, v_new=v)
    assert np.array_equal(out, v.repeat(2, axis=1))
    assert np.array_equal(cache.load(1, [2], 0, 1)[0][0], k[1].astype(np.float32))


def test_rows_may_lie_apart_and_nothing_between_them_is_written(cache: KvCache, pool: Pool) -> None:
    filled(cache)
    whole_q, whole_out = np.zeros((ROWS, 9, 32), np.float16), np.full((ROWS, 9, 32), 7, np.float16)
    whole_q[:, 2:6] = queries()
    pool.run(prepared(cache), 0, whole_q[:, 2:6], whole_out[:, 2:6])
    expected = np.empty((ROWS, HEADS, 32), np.float16)
    pool.run(prepared(cache), 0, queries(), expected)
    assert np.array_equal(whole_out[:, 2:6], expected)
    assert (whole_out[:, :2] == 7).all()
    assert (whole_out[:, 6:] == 7).all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"num_q_heads": 3}, "num_q_heads is 3; expected a multiple of the cache's 2 KV heads"),
        ({"q_dtype": "fp64"}, "unknown q_dtype 'fp64'; did you mean fp16"),
        ({"softmax_scale": np.inf}, "softmax_scale is inf; expected a finite number"),
        ({"window": -1}, "window is -1 tokens; expected 0 or more"),
        ({"sink_tokens": -4}, "sink_tokens is -4 tokens; expected 0 or more"),
        ({"sink_logits": [0.0]}, "sink_logits has shape (1,); expected (4,), one per query head"),
        ({"context_lens": [1, 2]}, "block_tables has 3 rows and context_lens 2; expected as many"),
        (
            {"context_lens": [1, -2, 1]},
            "context_lens has -2; expected 0 or more: 0 is an empty row",
        ),
        (
            {"context_lens": [1, 0, 1], "appends": True},
            "context_lens has 0; expected 1 or more: the appended token counts",
        ),
        (
            {"context_lens": [1, 33, 1]},
            "context_lens has 33 tokens and a row of block_tables holds 32; pass tables with more"
            " entries",
        ),
    ],
)
def test_batches_that_cannot_be_are_refused(
    change: dict[str, Any], sentence: str, cache: KvCache
) -> None:
    arguments: dict[str, Any] = {
        "block_tables": [[0, 1], [2, 3], [4, 5]],
        "context_lens": [1, 1, 1],
        "num_q_heads": HEADS,
        "q_dtype": "fp16",
        "softmax_scale": 1.0,
    }
    with pytest.raises(UsageError) as caught:
        Job(cache).prepare(**(arguments | change))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("wrong", [24, -1])
def test_a_wrong_block_id_is_refused_unless_it_is_never_read(wrong: int, cache: KvCache) -> None:
    job = Job(cache)
    with pytest.raises(UsageError, match=f"{wrong}"):
        job.prepare([[0, wrong]], [17], HEADS, "fp16", 1.0)
    with pytest.raises(UsageError, match="has not been prepared"):
        job.bind(queries()[:1], queries()[:1])
    job.prepare([[0, wrong]], [16], HEADS, "fp16", 1.0)


def test_tensors_that_do_not_fit_the_job_are_refused(cache: KvCache, pool: Pool) -> None:
    job, q = prepared(cache), queries()
    with pytest.raises(UsageError, match=r"q has shape \(2, 4, 32\); expected \(3, 4, 32\)"):
        job.bind(q[:2], q.copy())
    with pytest.raises(UsageError, match=r"lse has dtype fp16; expected fp32"):
        job.bind(q, q.copy(), lse=np.zeros((ROWS, HEADS), np.float16))
    with pytest.raises(
        UsageError, match="k_new and v_new were passed to a job that does not append"
    ):
        job.bind(q, q.copy(), q[:, :2], q[:, :2])
    with pytest.raises(UsageError, match="k_new and v_new are needed because the job appends"):
        prepared(cache, appends=True).bind(q, q.copy(), q[:, :2])
    with pytest.raises(UsageError, match="layer is 2; expected 0 to 1"):
        pool.run(job, 2, q, q.copy())
    bound = job.bind(q, q.copy())
    job.prepare([[0]], [1], HEADS, "fp16", 1.0)
    with pytest.raises(UsageError, match="was prepared again since its tensors were bound"):
        pool.launch(bound, 0)


def test_pools_that_cannot_be_are_refused(backend: str) -> None:
    with pytest.raises(UsageError, match="num_threads is -1; expected 0 to 1024"):
        Pool(-1)
    with pytest.raises(UsageError, match="max_in_flight is 0; expected 1 to 32768"):
        Pool(max_in_flight=0)
    with pytest.raises(UsageError, match="spin_us is nan; expected microseconds, 0 or more"):
        Pool(spin_us=float("nan"))


def test_a_closed_pool_says_so_and_its_tickets_are_settled(cache: KvCache) -> None:
    pool = Pool(1, is_pinned=False)
    job, q = prepared(cache), queries()
    ticket = pool.submit(job, 0, q, q.copy())
    pool.close()
    pool.close()
    assert ticket.done
    assert ticket.is_cancelled or ticket.wait(0)
    assert not job.is_in_flight
    with pytest.raises(UsageError, match="the pool is closed; make a new one"):
        pool.submit(job, 0, q, q.copy())


def test_waiting_takes_seconds_of_the_future(pool: Pool, cache: KvCache) -> None:
    ticket = pool.submit(prepared(cache), 0, queries(), queries())
    with pytest.raises(UsageError, match="timeout_s is -1; expected seconds"):
        ticket.wait(-1)
    assert ticket.wait()
    assert ticket.wait(0)
    assert not ticket.cancel()


def test_a_pool_larger_than_the_machine_gives_the_same_bits(cache: KvCache) -> None:
    filled(cache)
    outs = []
    for num_threads in (1, 2, 64):
        with Pool(num_threads) as pool:
            outs.append(queries())
            pool.run(prepared(cache), 0, queries(), outs[-1])
    assert len({out.tobytes() for out in outs}) == 1


class TestInFlight:
    """What only threads can show: a long job, and what others do meanwhile."""

    @pytest.fixture(autouse=True)
    def _slow_but_compiled(self, compiled: Library) -> Iterator[None]:
        """Only the library works beside the interpreter; its reference level takes its time."""
        before = isa()
        force_isa("reference")
        yield
        force_isa(before)

    @pytest.fixture
    def wide(self) -> Any:
        with KvCache(KvGeometry(1, 4, 2, 32, 16)) as cache:
            yield cache

    @pytest.fixture
    def lone(self) -> Any:
        with Pool(1, is_pinned=False, max_in_flight=2) as pool:
            yield pool

    def test_a_ticket_behind_another_can_be_cancelled(self, wide: KvCache, lone: Pool) -> None:
        q = queries()[:1]
        first, second = long_job(wide), long_job(wide)
        untouched = np.full_like(q, 7)
        running = lone.submit(first, 0, q, np.empty_like(q))
        ticket = lone.submit(second, 0, q, untouched, priority=Priority.DEFERRED)
        assert ticket.cancel()
        assert ticket.done
        assert ticket.is_cancelled
        assert not ticket.cancel()
        with pytest.raises(UsageError, match="the ticket was cancelled before it began"):
            ticket.wait()
        assert running.wait()
        assert (untouched == 7).all()

    def test_a_job_in_flight_is_left_alone(self, wide: KvCache, lone: Pool) -> None:
        q = queries()[:1]
        job = long_job(wide)
        bound = job.bind(q, np.empty_like(q))
        ticket = lone.launch(bound, 0)
        assert not ticket.wait(0)
        states = [job.is_in_flight]
        with pytest.raises(UsageError, match="the job is in flight; wait for its ticket"):
            lone.launch(bound, 0)
        with pytest.raises(UsageError, match="the job is in flight; wait for its ticket"):
            job.prepare([[0]], [1], HEADS, "fp16", 1.0)
        with pytest.raises(UsageError, match="the cache is read by a job in flight"):
            wide.close()
        assert ticket.wait()
        states.append(job.is_in_flight)
        assert states == [True, False]
        lone.launch(bound, 0).wait()

    def test_more_tickets_than_the_pool_takes_are_refused(self, wide: KvCache, lone: Pool) -> None:
        q = queries()[:1]
        jobs = [long_job(wide) for _ in range(3)]
        tickets = [lone.submit(job, 0, q, np.empty_like(q)) for job in jobs[:2]]
        with pytest.raises(UsageError, match="2 tickets are in flight, as many as the pool"):
            lone.submit(jobs[2], 0, q, np.empty_like(q))
        assert not jobs[2].is_in_flight
        assert all(ticket.wait() for ticket in tickets)
        lone.run(jobs[2], 0, q, np.empty_like(q))

    def test_dropped_arrays_live_until_the_job_is_done(self, wide: KvCache, lone: Pool) -> None:
        q, out = queries()[:1], queries()[:1]
        watched = weakref.ref(out)
        lone.submit(long_job(wide), 0, q, out)
        del q, out
        gc.collect()
        assert watched() is not None
        second = lone.submit(prepared_on(wide), 0, queries(), queries())
        assert second.wait()
        lone.submit(prepared_on(wide), 0, queries(), queries()).wait()
        gc.collect()
        assert watched() is None

    def test_closing_ends_what_runs_and_cancels_the_rest(self, wide: KvCache) -> None:
        pool = Pool(1, is_pinned=False)
        q, out = queries()[:1], np.full((1, HEADS, 32), np.nan, np.float16)
        running = pool.submit(long_job(wide), 0, q, out)
        queued = [pool.submit(long_job(wide), 0, q, q.copy()) for _ in range(3)]
        begin()
        pool.close()
        assert outcome(running) == ("cancelled" if np.isnan(out).any() else "done")
        outcomes = [outcome(ticket) for ticket in queued]
        assert outcomes == sorted(outcomes, reverse=True)  # "done" before "cancelled": in order
        assert outcomes[-1] == "cancelled"
        wide.close()

    def test_a_pool_that_is_dropped_ends_first(self, wide: KvCache) -> None:
        pool = Pool(2, is_pinned=False)
        out = np.full((1, HEADS, 32), np.nan, np.float16)
        watched = weakref.ref(pool)
        pool.submit(long_job(wide), 0, queries()[:1], out)
        del pool
        gc.collect()
        assert watched() is None
        wide.close()

    def test_another_thread_may_wait_while_the_pool_is_closed(self, wide: KvCache) -> None:
        pool = Pool(1, is_pinned=False)
        q = queries()[:1]
        ticket = pool.submit(long_job(wide), 0, q, q.copy())
        answers: list[str] = []
        waiter = threading.Thread(target=lambda: answers.append(outcome(ticket)))
        waiter.start()
        begin()
        pool.close()
        waiter.join()
        assert answers == [outcome(ticket)]

    def test_a_flag_tells_that_it_is_done(self, wide: KvCache, lone: Pool) -> None:
        q, flag = queries()[:1], np.zeros(1, np.uint32)
        bound = long_job(wide).bind(q, q.copy()).notify(flag)
        ticket = lone.launch(bound, 0)
        assert not flag[0]
        with pytest.raises(UsageError, match="in flight; wait for its ticket before naming"):
            bound.notify(np.zeros(1, np.uint32))
        ticket.wait()
        assert flag[0] == 1
        with pytest.raises(UsageError, match="flag is no NumPy array of one uint32"):
            prepared_on(wide).bind(queries(), queries()).notify(np.zeros(2, np.uint32))


def prepared_on(cache: KvCache) -> Job:
    return Job(cache).prepare([[0], [1], [2]], [16, 1, 9], HEADS, "fp16", 0.2)


def begin() -> None:
    """Let a worker begin; what is asserted holds whether it has or not."""
    time.sleep(0.02)


def outcome(ticket: Ticket) -> str:
    try:
        return "done" if ticket.wait() else "not in time"
    except UsageError:
        return "cancelled"
