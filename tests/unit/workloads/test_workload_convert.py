"""Converted traces read back as they were."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apexbench.errors import InputError
from apexbench.workloads.context import ContextLimit
from apexbench.workloads.convert import Format, encode
from apexbench.workloads.describe import describe, limited
from apexbench.workloads.readers import read_trace

Write = Callable[..., Path]
TEXT = "time,prompt_tokens,output_tokens\n3.25,3,4\n4.000000001,5,6\n"


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("text", [TEXT, "isl,osl\n3,4\n5,6\n"])
def test_a_converted_trace_reads_back_the_same(
    write: Write, form: Format, is_compressed: bool, text: str
) -> None:
    before = read_trace(write(text))
    data = encode(before, form, is_compressed=is_compressed)
    after = read_trace(write(data, "out"))
    assert after.format == f"columns-{form}"
    assert after.prompt_tokens.tolist() == before.prompt_tokens.tolist()
    assert after.output_tokens.tolist() == before.output_tokens.tolist()
    if before.arrival_s is None:
        assert after.arrival_s is None
    else:
        assert after.arrival_s is not None
        np.testing.assert_allclose(after.arrival_s, before.arrival_s, rtol=0, atol=1e-9)


def test_the_form_is_plain(write: Write) -> None:
    trace = read_trace(write(TEXT))
    expected = "arrival_s,prompt_tokens,output_tokens\n0.0,3,4\n0.750000001,5,6\n"
    assert encode(trace, "csv").decode() == expected
    assert gzip.decompress(encode(trace, "csv", is_compressed=True)).decode() == expected
    assert encode(trace, "csv", is_compressed=True)[4:8] == bytes(4)  # no time of day inside
    first = encode(trace, "jsonl").decode().splitlines()[0]
    assert first == '{"arrival_s": 0.0, "prompt_tokens": 3, "output_tokens": 4}'


def test_jsonl_keeps_prefix_hashes_and_csv_cannot(write: Write) -> None:
    row = '{"timestamp": %d, "input_length": 900, "output_length": 4, "hash_ids": [%d, 7]}\n'
    before = read_trace(write(row % (3000, 1) + row % (0, 2), "m.jsonl"))
    after = read_trace(write(encode(before, "jsonl"), "out.jsonl"))
    assert after.prefix_hashes == before.prefix_hashes == ((2, 7), (1, 7))
    assert after.arrival_s is not None
    assert after.arrival_s.tolist() == [0.0, 3.0]
    assert encode(after, "jsonl") == encode(before, "jsonl")
    assert read_trace(write(encode(before, "csv"), "out.csv")).prefix_hashes is None


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_estimated_counts_stay_estimated(write: Write, form: Format) -> None:
    text = '[{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]'
    after = read_trace(write(encode(read_trace(write(text)), form), "out"))
    assert after.is_approximated
    assert describe(after).is_approximated
    assert (after.prompt_tokens.tolist(), after.output_tokens.tolist()) == ([1], [1])
    assert not read_trace(write(TEXT)).is_approximated


def test_figures_of_a_trace_with_a_burst(write: Write) -> None:
    # 180 s: one request every 2 s and ten more within the second minute.
    times = sorted([*range(0, 182, 2), *np.linspace(70, 80, 10).tolist()])
    rows = "".join(f"{time},10,5\n" for time in times)
    figures = describe(read_trace(write("time,isl,osl\n" + rows)))
    assert (figures.num_kept, figures.span_s) == (101, 180.0)
    assert figures.mean_rate_rps == pytest.approx(100 / 180)
    assert figures.peak_to_mean == pytest.approx(40 / (101 / 3))
    assert figures.prompt_tokens.quantiles == (10.0,) * 8


def test_a_short_or_untimed_trace_has_no_peak(write: Write) -> None:
    assert describe(read_trace(write("time,isl,osl\n0,1,1\n119,1,1\n"))).peak_to_mean is None
    figures = describe(read_trace(write("isl,osl\n1,1\n")))
    assert (figures.span_s, figures.mean_rate_rps, figures.interarrival_cv) == (None, None, None)


def test_a_limited_trace_counts_what_it_lost(write: Write) -> None:
    trace = read_trace(write("time,isl,osl\n0,50,5\n2,5,5\n3,6,5\n"))
    dropped = limited(trace, ContextLimit(20, "drop"))
    assert dropped.arrival_s is not None
    assert dropped.arrival_s.tolist() == [0.0, 1.0]
    assert dict(dropped.dropped) == {"longer than max context": 1}
    clipped = limited(trace, ContextLimit(20, "clip"))
    assert clipped.prompt_tokens.tolist() == [15, 5, 6]
    assert dict(clipped.dropped) == {"clipped to max context": 1}
    with pytest.raises(InputError, match=r"every request of 't\.csv'"):
        limited(trace, ContextLimit(3, "drop"))


def test_a_limited_trace_keeps_the_hashes_that_hold(write: Write) -> None:
    row = '{"timestamp": 0, "input_length": %d, "output_length": 100, "hash_ids": [%s]}\n'
    trace = read_trace(write(row % (1500, "1, 2, 3") + row % (600, "1, 4"), "m.jsonl"))
    assert limited(trace, ContextLimit(1000, "drop")).prefix_hashes == ((1, 4),)
    assert limited(trace, ContextLimit(1000, "clip")).prefix_hashes == ((1,), (1, 4))
