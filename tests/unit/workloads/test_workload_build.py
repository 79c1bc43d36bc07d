"""Requests from sources and arrivals: windows, bounds, limits, summaries."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apexbench.errors import InputError, UsageError
from apexbench.records import NS_PER_S, Workload
from apexbench.workloads.arrivals import Arrivals
from apexbench.workloads.build import ContextLimit, build, summarize, within
from apexbench.workloads.sources import Source, resolve
from apexbench.workloads.trace import Trace


def _trace(arrival_s: list[float] | None, prompt: list[int], output: list[int]) -> Source:
    times = None if arrival_s is None else np.array(arrival_s, dtype=np.float64)
    trace = Trace("t", "test", "0" * 64, len(prompt), times, np.array(prompt), np.array(output))
    return Source("trace:t", "a test", trace)


def _build(  # one place for the defaults of a test
    source: Source | str,
    arrivals: Arrivals,
    num_requests: int | None = None,
    duration_s: float | None = None,
    seed: int = 0,
    max_context: str | None = None,
) -> Workload:
    return build(
        resolve(source) if isinstance(source, str) else source,
        arrivals=arrivals,
        num_requests=num_requests,
        duration_s=duration_s,
        seed=seed,
        max_context=ContextLimit.parse(max_context) if max_context else None,
    )


def _arrivals_s(workload: Workload) -> list[float]:
    return [request.arrival_ns / NS_PER_S for request in workload.requests]


def _lengths(workload: Workload) -> list[tuple[int, int]]:
    return [(request.prompt_tokens, request.output_tokens) for request in workload.requests]


TIMED = _trace([0, 1, 1, 4, 10], [10, 11, 12, 13, 14], [1, 2, 3, 4, 5])
UNTIMED = _trace(None, [10, 11, 12, 13, 14], [1, 2, 3, 4, 5])


def test_a_trace_without_bounds_is_served_whole_from_its_first_row() -> None:
    workload = _build(TIMED, Arrivals.trace(), seed=3)
    assert _arrivals_s(workload) == [0, 1, 1, 4, 10]
    assert _lengths(workload) == [(10, 1), (11, 2), (12, 3), (13, 4), (14, 5)]
    assert [request.id for request in workload.requests] == [0, 1, 2, 3, 4]
    assert workload.dropped == ()


def test_a_length_only_trace_without_bounds_is_served_whole_and_in_order() -> None:
    workload = _build(UNTIMED, Arrivals.constant(2.0), seed=3)
    assert _lengths(workload) == [(10, 1), (11, 2), (12, 3), (13, 4), (14, 5)]
    assert _arrivals_s(workload) == [0, 0.5, 1, 1.5, 2]


def test_a_window_is_contiguous_and_wraps_with_time_going_on() -> None:
    starts = set()
    for seed in range(40):
        workload = _build(TIMED, Arrivals.trace(), num_requests=4, seed=seed)
        start = workload.requests[0].prompt_tokens - 10
        starts.add(start)
        rows = [(start + i) % 5 for i in range(4)]
        assert [r.prompt_tokens - 10 for r in workload.requests] == rows
        # A lap lasts the span of 10 s and one mean gap of 2.5 s.
        times = [[0, 1, 1, 4, 10][row] + 12.5 * ((start + i) // 5) for i, row in enumerate(rows)]
        assert _arrivals_s(workload) == [time - times[0] for time in times]
    assert starts == {0, 1, 2, 3, 4}


def test_a_window_longer_than_the_trace_counts_what_it_repeats() -> None:
    workload = _build(TIMED, Arrivals.trace(), num_requests=12)
    assert dict(workload.dropped) == {"served again because the trace is shorter": 7}
    assert (np.diff(_arrivals_s(workload)) >= 0).all()


def test_a_rate_stretches_a_window_and_keeps_its_bursts() -> None:
    own = _build(TIMED, Arrivals.trace(), num_requests=4, seed=1)
    fast = _build(TIMED, Arrivals.trace(rate_rps=30.0), num_requests=4, seed=1)
    assert _lengths(own) == _lengths(fast)
    assert summarize(fast).mean_rate_rps == pytest.approx(30.0)
    assert summarize(fast).interarrival_cv == pytest.approx(summarize(own).interarrival_cv)


def test_a_duration_cuts_a_trace_at_its_own_pace() -> None:
    for seed in range(20):
        workload = _build(TIMED, Arrivals.trace(), duration_s=30.0, seed=seed)
        whole = _build(TIMED, Arrivals.trace(), num_requests=50, seed=seed)
        expected = [time for time in _arrivals_s(whole) if time < 30.0]
        assert _arrivals_s(workload) == expected


def test_a_duration_and_a_rate_give_their_product_of_requests() -> None:
    workload = _build(TIMED, Arrivals.trace(rate_rps=2.0), duration_s=8.0)
    assert len(workload.requests) == 16
    assert summarize(workload).mean_rate_rps == pytest.approx(2.0)
    assert _arrivals_s(workload)[-1] < 8.0


def test_a_trace_lends_the_same_lengths_whatever_the_arrivals() -> None:
    kinds = (
        Arrivals.trace(),
        Arrivals.trace(3.0),
        Arrivals.all_at_once(),
        Arrivals.poisson(2.0),
        Arrivals.closed_loop(2),
    )
    served = {tuple(_lengths(_build(TIMED, kind, num_requests=4, seed=9))) for kind in kinds}
    assert len(served) == 1


def test_a_bootstrap_keeps_rows_together_and_reaches_all_of_them() -> None:
    drawn = _lengths(_build(UNTIMED, Arrivals.all_at_once(), num_requests=200))
    assert set(drawn) == {(10, 1), (11, 2), (12, 3), (13, 4), (14, 5)}


@pytest.mark.parametrize("arrivals", [Arrivals.poisson(50.0), Arrivals.gamma(50.0, 4.0)])
def test_a_duration_bounds_a_random_process(arrivals: Arrivals) -> None:
    bounded = _build("osc", arrivals, duration_s=20.0)
    longer = _build("osc", arrivals, num_requests=len(bounded.requests) + 1)
    assert _arrivals_s(bounded) == _arrivals_s(longer)[:-1]
    assert _arrivals_s(bounded)[-1] < 20.0 <= _arrivals_s(longer)[-1]


def test_both_bounds_take_the_tighter_one() -> None:
    arrivals = Arrivals.constant(10.0)
    assert len(_build("osc", arrivals, num_requests=5, duration_s=1.0).requests) == 5
    assert len(_build("osc", arrivals, num_requests=50, duration_s=1.0).requests) == 10
    timed = _build(TIMED, Arrivals.trace(10.0), num_requests=50, duration_s=1.0)
    assert _arrivals_s(timed)[-1] < 1.0


def test_a_closed_loop_carries_its_concurrency_and_no_times() -> None:
    workload = _build("osc", Arrivals.closed_loop(8), num_requests=20, duration_s=5.0)
    assert workload.concurrency == 8
    assert {request.arrival_ns for request in workload.requests} == {0}
    assert summarize(workload).mean_rate_rps is None


def test_a_closed_loop_has_no_rate_even_if_its_source_has_times() -> None:
    looped = replace(_build(TIMED, Arrivals.trace()), concurrency=2)
    assert summarize(looped).mean_rate_rps is None


def test_requests_over_the_limit_are_replaced_by_the_next_that_fit() -> None:
    free = _build("azure-conv", Arrivals.poisson(5.0), num_requests=3000)
    kept = _build("azure-conv", Arrivals.poisson(5.0), num_requests=500, max_context="2048")
    fitting = [pair for pair in _lengths(free) if sum(pair) <= 2048]
    assert _lengths(kept) == fitting[:500]
    last = [i for i, pair in enumerate(_lengths(free)) if sum(pair) <= 2048][499]
    assert dict(kept.dropped) == {"longer than max context": last + 1 - 500}
    assert _arrivals_s(kept) == _arrivals_s(free)[:500]


def test_rows_over_the_limit_leave_the_others_at_their_times() -> None:
    source = _trace([0, 1, 2, 3], [50, 10, 90, 10], [5, 5, 5, 5])
    workload = _build(source, Arrivals.trace(), max_context="50:drop")
    assert _lengths(workload) == [(10, 5), (10, 5)]
    assert _arrivals_s(workload) == [0.0, 2.0]
    assert dict(workload.dropped) == {"longer than max context": 2}


def test_clipped_requests_are_all_served_and_counted() -> None:
    source = _trace([0, 1, 2, 3], [50, 10, 90, 10], [5, 5, 5, 80])
    workload = _build(source, Arrivals.trace(), max_context="50:clip")
    assert _lengths(workload) == [(45, 5), (10, 5), (45, 5), (1, 49)]
    assert dict(workload.dropped) == {"clipped to max context": 3}


def test_what_the_file_lost_is_passed_on() -> None:
    assert isinstance(TIMED.lengths, Trace)
    trace = replace(TIMED.lengths, dropped=(("no output tokens", 4),))
    workload = _build(replace(TIMED, lengths=trace), Arrivals.trace())
    assert dict(workload.dropped) == {"no output tokens": 4}


@pytest.mark.parametrize(
    "source", ["fixed:5000/10", _trace([0, 1], [5000, 6000], [1, 1]), _trace(None, [5000], [1])]
)
def test_every_request_too_long_is_an_input_error(source: Source | str) -> None:
    for arrivals in (Arrivals.all_at_once(), Arrivals.poisson(1.0)):
        with pytest.raises(InputError, match=r"every request .* max context of 4096 tokens"):
            _build(source, arrivals, num_requests=5, max_context="4096")


def test_nearly_every_request_too_long_is_an_input_error() -> None:
    with pytest.raises(InputError, match="more than 99 of 100 requests"):
        _build("lognormal:20000-40000/5-9", Arrivals.all_at_once(), 5, max_context="6400")


def test_a_whole_trace_too_long_is_an_input_error() -> None:
    with pytest.raises(InputError, match="every request of 't' exceeds"):
        _build(TIMED, Arrivals.trace(), max_context="5")


@pytest.mark.parametrize(
    ("source", "arrivals", "bounds", "sentence"),
    [
        ("osc", Arrivals.trace(), {"num_requests": 5}, "has no timestamps to replay"),
        (UNTIMED, Arrivals.trace(2.0), {}, "has no timestamps to replay"),
        ("osc", Arrivals.poisson(2.0), {}, "has no end; give a number of requests"),
        ("osc", Arrivals.all_at_once(), {"duration_s": 5.0}, "has no end"),
        ("osc", Arrivals.poisson(2.0), {"num_requests": 0}, "number of requests must be"),
        ("osc", Arrivals.poisson(2.0), {"duration_s": float("nan")}, "duration must be a positive"),
        ("osc", Arrivals.poisson(2.0), {"duration_s": 0.0}, "duration must be a positive"),
        ("osc", Arrivals.poisson(1e9), {"duration_s": 1e300}, "number of requests must be"),
        (TIMED, Arrivals.trace(), {"duration_s": 1e300}, "number of requests must be"),
        (TIMED, Arrivals.trace(1e9), {"duration_s": 1e300}, "number of requests must be"),
        ("osc", Arrivals.poisson(1e-9), {"num_requests": 99}, "146 years"),
        ("osc", Arrivals.poisson(2.0), {"num_requests": 5, "seed": -1}, "seed must be 0 or more"),
    ],
)
def test_contradictions_are_usage_errors(
    source: Source | str, arrivals: Arrivals, bounds: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        _build(source, arrivals, **bounds)


def test_a_trace_of_one_moment_has_no_rate() -> None:
    burst = _trace([0, 0, 0], [1, 1, 1], [1, 1, 1])
    assert _arrivals_s(_build(burst, Arrivals.trace())) == [0, 0, 0]
    cases: tuple[tuple[Arrivals, dict[str, Any]], ...] = (
        (Arrivals.trace(2.0), {"num_requests": 3}),
        (Arrivals.trace(), {"num_requests": 7}),
        (Arrivals.trace(), {"duration_s": 7.0}),
    )
    for arrivals, bounds in cases:
        with pytest.raises(InputError, match="all arrive at the same moment"):
            _build(burst, arrivals, **bounds)


def test_within_keeps_what_fits_and_counts_the_rest() -> None:
    workload = _build(TIMED, Arrivals.trace())
    kept = within(workload, 15)
    assert _lengths(kept) == [(10, 1), (11, 2), (12, 3)]
    assert [request.id for request in kept.requests] == [0, 1, 2]
    assert dict(kept.dropped) == {"longer than 15 tokens": 2}
    same = _build(_trace([0, 1, 1], [10, 11, 12], [1, 2, 3]), Arrivals.trace())
    assert kept.sha256 == same.sha256 != workload.sha256


def test_within_leaves_a_fitting_workload_alone_and_refuses_to_empty_one() -> None:
    workload = _build(TIMED, Arrivals.trace())
    assert within(workload, 19) is workload
    with pytest.raises(InputError, match="every request of 'trace:t' is longer than 3 tokens"):
        within(workload, 3)


def test_the_hash_covers_arrivals_prompts_and_outputs() -> None:
    def digest(times: list[float], prompt: list[int], output: list[int]) -> str:
        return _build(_trace(times, prompt, output), Arrivals.trace()).sha256

    base = digest([0, 1], [2, 3], [4, 5])
    others = (
        digest([0, 2], [2, 3], [4, 5]),
        digest([0, 1], [2, 4], [4, 5]),
        digest([0, 1], [2, 3], [4, 6]),
        digest([0, 1], [4, 3], [2, 5]),
    )
    assert base == digest([0, 1], [2, 3], [4, 5])
    assert len({base, *others}) == 5


def test_a_summary_has_lengths_rate_and_burstiness() -> None:
    summary = summarize(_build(TIMED, Arrivals.trace()))
    assert summary.num_requests == 5
    assert (summary.prompt_tokens.mean, summary.prompt_tokens.p50) == (12, 12)
    assert summary.prompt_tokens.p95 == pytest.approx(13.8)
    assert summary.prompt_tokens.max == 14
    assert summary.output_tokens.max == 5
    gaps = np.array([1, 0, 3, 6])
    assert summary.mean_rate_rps == pytest.approx(0.4)
    assert summary.interarrival_cv == pytest.approx(gaps.std() / gaps.mean())


@pytest.mark.parametrize("num_requests", [1, 5])
def test_a_summary_of_a_batch_has_no_rate(num_requests: int) -> None:
    summary = summarize(_build("osc", Arrivals.all_at_once(), num_requests=num_requests))
    assert (summary.mean_rate_rps, summary.interarrival_cv) == (None, None)


def test_the_real_azure_trace_keeps_its_bursts(real_trace: Callable[[str], Path]) -> None:
    source = resolve(f"trace:{real_trace('azure-conv-2023.csv')}")
    whole = summarize(_build(source, Arrivals.trace()))
    assert whole.mean_rate_rps == pytest.approx(5.530, abs=1e-3)
    assert whole.interarrival_cv == pytest.approx(1.094, abs=1e-3)
    kept = _build(source, Arrivals.trace(), max_context="4096:drop")
    assert dict(kept.dropped) == {"longer than max context": 1612}
    assert len(kept.requests) == 19_366 - 1612
    window = _build(source, Arrivals.trace(2.0), num_requests=1000, seed=1, max_context="4096")
    assert summarize(window).mean_rate_rps == pytest.approx(2.0)


def test_the_real_osc_lengths_are_drawn_from(real_trace: Callable[[str], Path]) -> None:
    source = resolve(f"trace:{real_trace('osc-llama2-lengths.json')}")
    assert isinstance(source.lengths, Trace)
    rows = set(
        zip(
            source.lengths.prompt_tokens.tolist(),
            source.lengths.output_tokens.tolist(),
            strict=True,
        )
    )
    drawn = _build(source, Arrivals.poisson(1.0), num_requests=5000, seed=4)
    assert set(_lengths(drawn)) <= rows
    assert summarize(drawn).prompt_tokens.mean == pytest.approx(372.5, rel=0.02)


def _mooncake(*, has_times: bool) -> Source:
    """Row i asks for 10 (i + 1) tokens and has one hash for each 10 of them, all of them i."""
    source = _trace([0.0, 3.0, 3.0, 9.0] if has_times else None, [10, 20, 30, 40], [5] * 4)
    assert isinstance(source.lengths, Trace)
    hashes = tuple((row,) * (row + 1) for row in range(4))
    return replace(source, lengths=replace(source.lengths, prefix_hashes=hashes))


@pytest.mark.parametrize("has_times", [True, False])
@pytest.mark.parametrize("limit", [None, "37:drop"])
@pytest.mark.parametrize("num_requests", [None, 3, 11])
def test_every_request_carries_the_prefix_hashes_of_its_row(
    has_times: bool, limit: str | None, num_requests: int | None
) -> None:
    arrivals = Arrivals.trace() if has_times else Arrivals.all_at_once()
    source = _mooncake(has_times=has_times)
    workload = _build(source, arrivals, num_requests=num_requests, max_context=limit)
    for request in workload.requests:
        row = request.prompt_tokens // 10 - 1
        assert request.prefix_hashes == (row,) * (row + 1)
    for request in within(workload, 35).requests:
        assert len(request.prefix_hashes or ()) == request.prompt_tokens // 10


def test_clipped_requests_keep_only_hashes_of_whole_blocks() -> None:
    clipped = _build(_mooncake(has_times=True), Arrivals.trace(), max_context="32:clip")
    held = [(r.prompt_tokens, len(r.prefix_hashes or ())) for r in clipped.requests]
    assert held == [(10, 1), (20, 2), (27, 1), (27, 2)]


def test_requests_of_other_sources_carry_no_prefix_hashes() -> None:
    for source in (TIMED, "osc"):
        workload = _build(source, Arrivals.poisson(1.0), num_requests=20)
        assert {(r.prefix_hashes, r.token_ids) for r in workload.requests} == {(None, None)}
