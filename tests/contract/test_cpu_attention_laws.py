"""Laws of decode attention on every ISA level: what may change and no bit with it.

The reference is in test_cpu_attention_values.py; here a kernel is compared with itself.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from apexbench.cpu_kernels import Pool, Priority, decode_attention
from tests.cpu_attention_cases import (
    Q_DTYPES,
    Case,
    Tensors,
    tensors,
)
from tests.cpu_attention_runs import (
    Buffers,
    Result,
    attended,
    computing_with,
    each_kv,
    each_level,
    fill,
    geometry_of,
    poisoned,
    prepared,
    run,
)
from tests.cpu_attention_solutions import solved
from tests.cpu_attention_tolerance import tolerance_of

MIXED = Case((70, 0, 1, 128, 33, 400), head_dim=96, block_size=32, kv_heads=2, group=4)
# Some MiB, so that rows are split by tokens among workers and merged.
LONG = Case((3, 2500, 0, 900, 64, 1300), head_dim=128, block_size=16, kv_heads=2, group=2)


@contextmanager
def pools(*num_threads: int) -> Iterator[list[Pool]]:
    """Pools that sleep when idle: other tests share the CPUs."""
    with ExitStack() as stack:
        yield [stack.enter_context(Pool(number, spin_us=0)) for number in num_threads]


def in_format(case: Case, kv: str, q_dtype: str = "fp32") -> Case:
    """The case with another way to hold K and V."""
    return replace(case, kv=kv, q_dtype=q_dtype)


def rows_of(case: Case, data: Tensors, order: list[int]) -> tuple[Case, Tensors]:
    """Some of the rows, in this order, with the same tables on the same cache."""
    picked = Tensors(
        data.q[order],
        [data.k[i] for i in order],
        [data.v[i] for i in order],
        data.tables[order],
        data.num_blocks,
        data.sink_logits,
    )
    return replace(case, lengths=tuple(case.lengths[i] for i in order)), picked


@each_level
@each_kv
@pytest.mark.parametrize("base", [MIXED, LONG], ids=["short", "long"])
def test_rows_in_another_order(level: str, kv: str, base: Case) -> None:
    case = in_format(base, kv)
    data = tensors(case)
    with computing_with(level), fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as c:
        result = attended(c, case, data)
        for order in ([5, 4, 3, 2, 1, 0], [3, 0, 5, 1, 4, 2]):
            attended(c, *rows_of(case, data, order)).assert_same_bits(result.rows(order))


@each_level
@each_kv
@pytest.mark.parametrize("base", [MIXED, LONG], ids=["short", "long"])
def test_a_row_alone_is_the_row_in_a_batch(level: str, kv: str, base: Case) -> None:
    """So a batch may be split into jobs, and a row does not depend on who else is served."""
    case = in_format(base, kv, "bf16")
    data = tensors(case)
    with computing_with(level), fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as c:
        result = attended(c, case, data)
        for row in range(len(case.lengths)):
            attended(c, *rows_of(case, data, [row])).assert_same_bits(result.rows([row]))


@each_level
@each_kv
def test_any_number_of_threads(level: str, kv: str) -> None:
    for base in (MIXED, LONG, replace(LONG, window=1100, sink_tokens=40, has_sink_logits=True)):
        case = in_format(base, kv)
        data = tensors(case)
        with (
            computing_with(level),
            fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as cache,
            pools(1, 2, 3) as many,
        ):
            inline = attended(cache, case, data)
            for pool in many:
                for _ in range(2):
                    attended(cache, case, data, pool=pool).assert_same_bits(inline)


@each_level
@pytest.mark.parametrize("kv", ["bf16", "int8-fp16"])
def test_any_number_of_threads_while_appending(level: str, kv: str) -> None:
    """No worker reads a block before the token that belongs there is in it."""
    case = replace(in_format(LONG, kv, "bf16"), lengths=(3, 2500, 1, 905, 64))
    data = tensors(case)
    geometry = geometry_of(case, data.num_blocks)
    shorter = tuple(length - 1 for length in case.lengths)
    for window, sink_tokens in ((0, 0), (40, 2464), (900, 7)):  # sinks that end in the last block
        this = replace(case, window=window, sink_tokens=sink_tokens)
        with (
            computing_with(level),
            fill(poisoned(geometry), case, data) as stored,
            fill(poisoned(geometry), case, data, lengths=shorter) as cache,
            pools(1, 3) as many,
        ):
            before = cache.memory.copy()
            exact = attended(stored, this, data)
            for pool in many:
                cache.memory[:] = before
                attended(cache, this, data, appends=True, pool=pool).assert_same_bits(exact)
                np.testing.assert_array_equal(cache.memory, stored.memory)


@each_level
@each_kv
def test_wherever_the_blocks_lie(level: str, kv: str) -> None:
    """Other block ids, and a cache with more blocks."""
    case = in_format(MIXED, kv)
    data = tensors(case)
    ids = np.random.default_rng(1).permutation(data.num_blocks + 9).astype(np.int32)
    moved = Tensors(data.q, data.k, data.v, ids[data.tables], len(ids), data.sink_logits)
    in_order = np.arange(data.tables.size, dtype=np.int32).reshape(data.tables.shape)
    neat = Tensors(data.q, data.k, data.v, in_order, data.num_blocks, data.sink_logits)
    with computing_with(level):
        result = run(case, data)
        run(case, moved).assert_same_bits(result)
        run(case, neat).assert_same_bits(result)


@each_level
def test_a_prepared_job_serves_every_layer(level: str) -> None:
    """Resubmitted with another layer index, on one set of buffers, as if prepared anew."""
    case = in_format(replace(MIXED, has_sink_logits=True, window=50), "int8-fp16", "fp16")
    data = [tensors(replace(case, seed=seed)) for seed in range(3)]
    for each in data:  # the batch is the same, K and V of the layers are not
        each.q, each.tables, each.sink_logits = data[0].q, data[0].tables, data[0].sink_logits
    geometry = geometry_of(case, data[0].num_blocks, num_layers=3)
    with computing_with(level), poisoned(geometry) as cache, pools(2) as (pool,):
        for layer, each in enumerate(data):
            fill(cache, case, each, layer=layer)
        anew = [attended(cache, case, each, layer=i) for i, each in enumerate(data)]
        job, buffers = prepared(cache, case, data[0]), Buffers(case, data[0])
        for layer in (0, 1, 2, 1, 0):
            pool.run(job, layer, **buffers.arguments())
            buffers.result().assert_same_bits(anew[layer])
            job.run_inline(layer, **buffers.arguments())
            buffers.result().assert_same_bits(anew[layer])
        assert (anew[0].out_bits != anew[1].out_bits).any()


@each_level
def test_a_job_prepared_again_is_a_new_job(level: str) -> None:
    """Larger, smaller, without rows, with another ISA-independent setting each time."""
    case = in_format(MIXED, "fp16")
    data = tensors(case)
    with computing_with(level), fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as c:
        job = prepared(c, case, data)
        for order in ([1], [0, 1, 2, 3, 4, 5], [5, 5, 5], [3]):
            some, picked = rows_of(case, data, order)
            for window in (0, 20):
                windowed = replace(some, window=window)
                buffers = Buffers(windowed, picked)
                job.prepare(
                    picked.tables,
                    np.array(some.lengths, np.int32),
                    case.q_heads,
                    "fp32",
                    case.softmax_scale,
                    window=window,
                )
                job.run_inline(0, **buffers.arguments())
                buffers.result().assert_same_bits(attended(c, windowed, picked))


@each_level
@pytest.mark.parametrize("kv", ["fp16", "bf16", "int8-fp16"])
def test_many_tickets_of_both_priorities(level: str, kv: str) -> None:
    """Deferred jobs give way between blocks and are resumed: each result as if it were alone."""
    long = in_format(replace(LONG, lengths=(1200, 2000)), kv)
    short = in_format(replace(LONG, lengths=(64, 1, 130)), kv)
    layers = 3
    long_data, short_data = tensors(long), tensors(replace(short, seed=9))
    short_data.tables += long_data.num_blocks
    geometry = geometry_of(long, long_data.num_blocks + short_data.num_blocks, num_layers=layers)
    with computing_with(level), poisoned(geometry) as cache, pools(1, 2) as both:
        for layer in range(layers):
            fill(cache, long, long_data, layer=layer)
            fill(cache, short, short_data, layer=layer)
        alone = [attended(cache, *batch) for batch in ((long, long_data), (short, short_data))]
        for pool in both:
            batches = [(long, long_data, Priority.DEFERRED), (short, short_data, Priority.IN_LAYER)]
            flights = []
            for number in range(2 * layers):
                case, data, priority = batches[number % 2]
                buffers = Buffers(case, data)
                job = prepared(cache, case, data)
                arguments = buffers.arguments()
                ticket = pool.submit(job, number // 2, priority=priority, **arguments)
                flights.append((ticket, buffers, alone[number % 2]))
            for ticket, buffers, exact in flights:
                assert ticket.wait(60)
                buffers.result().assert_same_bits(exact)


@each_level
@each_kv
def test_decoding_step_by_step(level: str, kv: str) -> None:
    """Contexts that grow by append equal contexts stored at once, at every length."""
    case = in_format(Case((1, 30, 47), block_size=16, kv_heads=2, group=2), kv, "bf16")
    steps = 20
    longest = replace(case, lengths=tuple(length + steps for length in case.lengths))
    data = tensors(longest)
    geometry = geometry_of(case, data.num_blocks)
    with (
        computing_with(level),
        fill(poisoned(geometry), longest, data) as at_once,
        fill(poisoned(geometry), case, data, lengths=case.lengths) as growing,
        pools(2) as (pool,),
    ):
        for step in range(1, steps + 1):
            now = replace(case, lengths=tuple(length + step for length in case.lengths))
            cut = Tensors(
                data.q,
                [k[:length] for k, length in zip(data.k, now.lengths, strict=True)],
                [v[:length] for v, length in zip(data.v, now.lengths, strict=True)],
                data.tables,
                data.num_blocks,
                None,
            )
            appended = attended(growing, now, cut, appends=True, pool=pool)
            appended.assert_same_bits(attended(at_once, now, cut))
        np.testing.assert_array_equal(growing.memory, at_once.memory)


@each_level
@each_kv
def test_constant_values_come_back(level: str, kv: str) -> None:
    """An average of equal things, whatever the scores: weights add up to one."""
    for q_dtype in Q_DTYPES:
        case = replace(in_format(MIXED, kv, q_dtype), q_size=3.0)
        data = tensors(case)
        for v in data.v:
            v[:] = 1.75  # exact in all formats; with int8 the scale is 1.75 / 127
        with computing_with(level):
            result = run(case, data)
        exact = solved(case, data, tolerance_of(case.form, level))
        constant = np.where(np.array(case.lengths) > 0, case.form.held(np.full(1, 1.75))[0], 0.0)
        np.testing.assert_allclose(
            exact.out, np.broadcast_to(constant[:, None, None], exact.out.shape)
        )
        assert exact.out_bounds.max() < 1.75 / 100
        exact.check(result.out, result.lse)


@each_level
@each_kv
def test_a_window_that_hides_nothing_is_none(level: str, kv: str) -> None:
    case = in_format(replace(MIXED, lengths=(0, 1, 64, 150)), kv)
    data = tensors(case)
    with computing_with(level):
        result = run(case, data)
        for window, sink_tokens in ((150, 0), (2**31 - 1, 3), (100, 50), (1, 149), (1, 2**31 - 1)):
            windowed = replace(case, window=window, sink_tokens=sink_tokens)
            run(windowed, data).assert_same_bits(result)


@each_level
@each_kv
def test_powers_of_two_move_between_q_and_the_scale(level: str, kv: str) -> None:
    """2^n q with scale 2^-n: every rounding is the same."""
    for q_dtype in Q_DTYPES:
        case = in_format(MIXED, kv, q_dtype)
        data = tensors(case)
        with computing_with(level):
            result = run(case, data)
            data.q *= 4.0
            run(replace(case, softmax_scale=case.softmax_scale / 4), data).assert_same_bits(result)


@each_level
@pytest.mark.parametrize("kv", ["fp32", "bf16", "int8-fp32"])
def test_results_scale_with_v(level: str, kv: str) -> None:
    """By a power of two, exactly; the log-sum-exp does not know V."""
    case = in_format(MIXED, kv)
    data = tensors(case)
    with computing_with(level):
        result = run(case, data)
        data.v = [v * 2.0**20 for v in data.v]
        scaled = run(case, data)
    np.testing.assert_array_equal(scaled.out, result.out * 2.0**20)
    np.testing.assert_array_equal(scaled.lse_bits, result.lse_bits)


@each_level
@each_kv
def test_kv_heads_know_nothing_of_each_other(level: str, kv: str) -> None:
    """Three KV heads at once equal each alone in a cache of its own."""
    lengths = (0, 1, 70, 128)  # one block each: longer rows are split by their bytes, of all heads
    case = in_format(replace(MIXED, lengths=lengths, block_size=128, kv_heads=3, group=2), kv)
    data = tensors(case)
    with computing_with(level):
        result = run(case, data)
        for head in range(3):
            queries = slice(2 * head, 2 * head + 2)
            alone = Tensors(
                data.q[:, queries],
                [k[:, head : head + 1] for k in data.k],
                [v[:, head : head + 1] for v in data.v],
                data.tables,
                data.num_blocks,
                None,
            )
            of_head = Result(result.out_bits[:, queries], result.lse_bits[:, queries], case.q_dtype)
            run(replace(case, kv_heads=1), alone).assert_same_bits(of_head)


@each_level
def test_the_call_without_a_job_is_the_same(level: str) -> None:
    case = in_format(replace(MIXED, window=40, sink_tokens=4), "fp8", "fp16")
    data = tensors(case)
    with computing_with(level), fill(poisoned(geometry_of(case, data.num_blocks)), case, data) as c:
        buffers = Buffers(case, data)
        returned = decode_attention(
            buffers.q,
            c,
            0,
            data.tables,
            np.array(case.lengths, np.int32),
            softmax_scale=case.softmax_scale,
            window=40,
            sink_tokens=4,
            out=buffers.out,
            lse=buffers.lse,
        )
        assert returned is buffers.out
        buffers.result().assert_same_bits(attended(c, case, data))


INT8_LEVELS = ("avx2", "avx512", "avx512x", "neon")


@pytest.mark.parametrize("level", INT8_LEVELS)
@pytest.mark.parametrize("scale_dtype", ["fp32", "fp16"])
def test_int8_scores_are_those_of_the_reference_level(level: str, scale_dtype: str) -> None:
    """Dot products are exact integers everywhere: only a few fp32 roundings and exp2 are left."""
    case = in_format(replace(MIXED, block_size=64, window=100), f"int8-{scale_dtype}")
    for q_size in (1.0, 30.0):
        this = replace(case, q_size=q_size)
        data = tensors(this)
        with computing_with("reference"):
            exact = run(this, data)
        with computing_with(level):
            result = run(this, data)
        is_finite = np.isfinite(exact.lse)
        np.testing.assert_allclose(
            result.lse[is_finite], exact.lse[is_finite], rtol=4 * 2.0**-24, atol=16 * 2.0**-24
        )
