"""Laws of workloads: equal seeds give equal requests, and one choice never moves another."""

import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.errors import ApexbenchError
from apexbench.records import Workload
from apexbench.workloads.arrivals import Arrivals
from apexbench.workloads.build import ContextLimit, build, summarize, within
from apexbench.workloads.convert import encode
from apexbench.workloads.lengths import IntArray
from apexbench.workloads.readers import read_trace
from apexbench.workloads.sources import Source, resolve
from apexbench.workloads.trace import Trace

SYNTHETIC = (
    "osc", "azure-conv", "azure-code", "chat", "livebench", "reasoning", "dolphin-r1",
    "long-context", "uniform:1-900/1-90", "lognormal:50-90/9-30",
)  # fmt: skip
seeds = st.integers(0, 2**63)
counts = st.integers(1, 60)
rates = st.floats(1e-3, 1e3)
processes = st.sampled_from(["constant", "poisson", "gamma"])
limits = st.none() | st.builds(
    ContextLimit, st.integers(2000, 5000), st.sampled_from(["drop", "clip"])
)
lengths = st.integers(1, 500)
# Sorted times that begin at 0 and do not all coincide, with a length pair each.
timed_rows = st.lists(
    st.tuples(st.integers(0, 10**6), lengths, lengths), min_size=2, max_size=30
).filter(lambda rows: len({time for time, _, _ in rows}) > 1)


def _arrivals(process: str, rate: float) -> Arrivals:
    if process == "gamma":
        return Arrivals.gamma(rate, 2.5)
    return Arrivals.poisson(rate) if process == "poisson" else Arrivals.constant(rate)


def _build(
    source: Source,
    arrivals: Arrivals,
    count: int | None,
    seed: int,
    limit: ContextLimit | None = None,
) -> Workload:
    return build(
        source,
        arrivals=arrivals,
        num_requests=count,
        duration_s=None,
        seed=seed,
        max_context=limit,
    )


def _columns(workload: Workload) -> tuple[IntArray, IntArray, IntArray]:
    rows = [(r.arrival_ns, r.prompt_tokens, r.output_tokens) for r in workload.requests]
    arrival, prompt, output = np.array(rows, dtype=np.int64).T
    return arrival, prompt, output


def _timed(rows: list[tuple[int, int, int]]) -> Source:
    ordered = sorted(rows)
    times = np.array([time for time, _, _ in ordered], dtype=np.float64)
    trace = Trace(
        name="t",
        format="test",
        sha256="0" * 64,
        num_rows=len(rows),
        arrival_s=times - times[0],
        prompt_tokens=np.array([prompt for _, prompt, _ in ordered]),
        output_tokens=np.array([output for _, _, output in ordered]),
    )
    return Source("trace:t", "a test", trace)


@given(st.sampled_from(SYNTHETIC), processes, rates, counts, seeds, limits)
@settings(max_examples=60, deadline=None)
def test_equal_seeds_give_equal_workloads_in_order_and_within_the_limit(
    spec: str, process: str, rate: float, count: int, seed: int, limit: ContextLimit | None
) -> None:
    arrivals = _arrivals(process, rate)
    workload = _build(resolve(spec), arrivals, count, seed, limit)
    assert workload == _build(resolve(spec), arrivals, count, seed, limit)
    arrival, prompt, output = _columns(workload)
    assert len(arrival) == count
    assert [request.id for request in workload.requests] == list(range(count))
    assert arrival[0] == 0
    assert (np.diff(arrival) >= 0).all()
    assert min(prompt.min(), output.min()) >= 1
    assert limit is None or (prompt + output).max() <= limit.tokens


@given(st.sampled_from(SYNTHETIC), processes, rates, rates, counts, seeds, limits)
@settings(max_examples=60, deadline=None)
def test_the_rate_scales_the_arrivals_and_leaves_the_lengths_alone(
    spec: str,
    process: str,
    rate: float,
    other: float,
    count: int,
    seed: int,
    limit: ContextLimit | None,
) -> None:
    source = resolve(spec)
    arrival, prompt, output = _columns(_build(source, _arrivals(process, rate), count, seed, limit))
    there = _columns(_build(source, _arrivals(process, other), count, seed, limit))
    assert (prompt == there[1]).all()
    assert (output == there[2]).all()
    np.testing.assert_allclose(arrival * rate, there[0] * other, rtol=1e-9, atol=max(rate, other))


@given(counts, counts, seeds, limits, st.sampled_from(SYNTHETIC))
@settings(max_examples=60, deadline=None)
def test_more_requests_only_append(
    few: int, more: int, seed: int, limit: ContextLimit | None, spec: str
) -> None:
    source, arrivals = resolve(spec), Arrivals.gamma(3.0, 2.0)
    short = _build(source, arrivals, few, seed, limit).requests
    long = _build(source, arrivals, few + more, seed, limit).requests
    assert long[:few] == short


@given(counts, seeds)
@settings(max_examples=40, deadline=None)
def test_changing_one_length_moves_neither_the_other_nor_the_arrivals(
    count: int, seed: int
) -> None:
    def columns(spec: str) -> tuple[IntArray, IntArray, IntArray]:
        return _columns(_build(resolve(spec), Arrivals.poisson(2.0), count, seed))

    base = columns("uniform:1-900/1-90")
    other_output = columns("uniform:1-900/5-700")
    other_prompt = columns("fixed:10/10")
    assert (base[0] == other_output[0]).all()
    assert (base[1] == other_output[1]).all()
    assert (base[0] == other_prompt[0]).all()
    assert (base[2] == columns("uniform:3-4/1-90")[2]).all()


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_prompt_and_output_lengths_of_equal_distribution_are_independent(seed: int) -> None:
    _, prompt, output = _columns(
        _build(resolve("uniform:1-1000/1-1000"), Arrivals.all_at_once(), 2000, seed)
    )
    # 0.15 is 6.7 standard deviations of the correlation of 2,000 independent pairs.
    assert abs(np.corrcoef(prompt, output)[0, 1]) < 0.15


@given(timed_rows, st.integers(1, 90), seeds, st.none() | rates)
@settings(max_examples=60, deadline=None)
def test_a_window_of_a_trace_keeps_its_rows_their_order_and_their_gaps(
    rows: list[tuple[int, int, int]], count: int, seed: int, rate: float | None
) -> None:
    source = _timed(rows)
    trace = source.lengths
    assert isinstance(trace, Trace)
    assert trace.arrival_s is not None
    workload = _build(source, Arrivals.trace(), count, seed)
    arrival, prompt, output = _columns(workload)
    pairs = list(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    served = list(zip(prompt.tolist(), output.tolist(), strict=True))
    laps = pairs * (count // len(pairs) + 2)
    assert any(laps[start : start + count] == served for start in range(len(pairs)))
    gaps = set(np.diff(trace.arrival_s).tolist())
    period_gap = trace.span_s / (len(trace) - 1)
    for gap in np.diff(arrival) / 1e9:
        assert any(abs(gap - known) < 1e-3 for known in (*gaps, period_gap))
    if rate is not None and arrival[-1] > 0:
        scaled = _columns(_build(source, Arrivals.trace(rate), count, seed))
        assert (scaled[1] == prompt).all()
        np.testing.assert_allclose(scaled[0][-1] / 1e9, (count - 1) / rate, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(
            scaled[0] / max(1, scaled[0][-1]), arrival / arrival[-1], atol=1e-6
        )


@given(st.sampled_from(SYNTHETIC), counts, seeds, st.integers(2, 5000))
@settings(max_examples=60, deadline=None)
def test_within_splits_a_workload_without_losing_a_request(
    spec: str, count: int, seed: int, tokens: int
) -> None:
    workload = _build(resolve(spec), Arrivals.poisson(1.0), count, seed)
    fitting = [r for r in workload.requests if r.total_tokens <= tokens]
    if not fitting:
        return
    kept = within(workload, tokens)
    assert len(kept.requests) + sum(dict(kept.dropped).values()) == count
    assert [(r.arrival_ns, r.prompt_tokens, r.output_tokens) for r in kept.requests] == [
        (r.arrival_ns, r.prompt_tokens, r.output_tokens) for r in fitting
    ]
    assert summarize(kept).prompt_tokens.max == max(r.prompt_tokens for r in fitting)
    assert within(kept, tokens) is kept


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_file_content_raises_anything_but_a_sentence(
    content: bytes, is_compressed: bool
) -> None:
    _read_or_refuse(gzip.compress(content) if is_compressed else content)


cells = st.sampled_from(
    ["1", "0", "2.0", "-1", "x", "", '"', "nan", "1e400", "2023-01-01 00:00:00"]
)


@given(st.lists(st.lists(cells, min_size=2, max_size=4), max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_table_of_odd_cells_raises_anything_but_a_sentence(rows: list[list[str]]) -> None:
    lines = ["arrival_s,prompt_tokens,output_tokens", *(",".join(row) for row in rows)]
    _read_or_refuse("\n".join(lines).encode())


values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([-9, 1, 10**30])
    | st.sampled_from(["human", "gpt", "Hello", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["from", "value", "characters", "conversations"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.just("conversations"), values, min_size=1), max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_odd_conversation_raises_anything_but_a_sentence(rows: list[dict[str, object]]) -> None:
    _read_or_refuse(json.dumps(rows).encode())


@given(st.lists(st.tuples(lengths, st.lists(st.integers(0, 2**64), max_size=4)), min_size=1))
@settings(max_examples=60, deadline=None)
def test_prefix_hashes_survive_conversion(rows: list[tuple[int, list[int]]]) -> None:
    trace = Trace(
        name="t",
        format="test",
        sha256="0" * 64,
        num_rows=len(rows),
        arrival_s=None,
        prompt_tokens=np.array([prompt for prompt, _ in rows]),
        output_tokens=np.ones(len(rows), dtype=np.int64),
        prefix_hashes=tuple(tuple(hashes) for _, hashes in rows),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.jsonl"
        path.write_bytes(encode(trace, "jsonl"))
        again = read_trace(path)
    assert again.prefix_hashes == trace.prefix_hashes
    assert again.prompt_tokens.tolist() == trace.prompt_tokens.tolist()


def _read_or_refuse(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace"
        path.write_bytes(content)
        try:
            trace = read_trace(path)
        except ApexbenchError as error:
            outcome: Trace | str = str(error)
        else:
            outcome = trace
    if isinstance(outcome, str):
        assert len(outcome.splitlines()) == 1
        return
    assert len(outcome) >= 1
    assert min(outcome.prompt_tokens.min(), outcome.output_tokens.min()) >= 1
