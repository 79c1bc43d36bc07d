"""Trace files of every form, their quirks, and one sentence for each way to be unusable."""

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apexbench.errors import InputError
from apexbench.workloads.readers import read_trace

Write = Callable[..., Path]
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109"
)


def _lists(path: Path) -> tuple[list[float] | None, list[int], list[int]]:
    trace = read_trace(path)
    times = None if trace.arrival_s is None else trace.arrival_s.tolist()
    return times, trace.prompt_tokens.tolist(), trace.output_tokens.tolist()


def test_azure_quirks_crlf_no_final_newline_seven_digits(write: Write) -> None:
    path = write(AZURE)
    trace = read_trace(path)
    assert trace.format == "azure-csv"
    assert trace.sha256 == hashlib.sha256(AZURE.encode()).hexdigest()
    assert _lists(path) == ([0.0, 4.314579], [374, 396], [44, 109])


def test_dates_across_midnight_with_time_zone_and_byte_order_mark(write: Write) -> None:
    text = (
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 23:59:59.5+00:00,1,2\n"
        "2024-05-11T00:00:01Z,3,4\n"
    )
    assert _lists(write(text)) == ([0.0, 1.5], [1, 3], [2, 4])


@pytest.mark.parametrize(
    ("text", "format_name", "times"),
    [
        ("arrival_s,prompt_tokens,output_tokens\n1.5,3,4\n2,5,6\n", "columns-csv", [0.0, 0.5]),
        ("Arrival MS;Input Len;Output Len\n1500;3;4\n2000;5;6\n", "columns-csv", [0.0, 0.5]),
        ("prompt_len\toutput_len\n3\t4\n5\t6\n", "columns-csv", None),
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "5,GPT-4,3,4,7,API log\n45,GPT-4,5,6,11,API log\n",
            "burstgpt-csv",
            [0.0, 40.0],
        ),
        ('[{"prompt": 3, "max_tokens": 4}, {"prompt": 5, "max_tokens": 6}]', "lengths-json", None),
        (
            '{"arrived_at": 7, "isl": 3, "osl": 4}\n\n{"osl": 6, "isl": 5, "arrived_at": 9.5}\n',
            "columns-jsonl",
            [0.0, 2.5],
        ),
        (
            '{"timestamp": 3000, "input_length": 3, "output_length": 4, "hash_ids": [1]}\n'
            '{"timestamp": 6000, "input_length": 5, "output_length": 6, "hash_ids": [1, 2]}\n',
            "mooncake-jsonl",
            [0.0, 3.0],
        ),
    ],
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_columns_are_recognised_by_their_names(
    write: Write, text: str, format_name: str, times: list[float] | None, is_compressed: bool
) -> None:
    data = text.encode()
    path = write(gzip.compress(data) if is_compressed else data, "any.bin")
    assert read_trace(path).format == format_name
    assert _lists(path) == (times, [3, 5], [4, 6])


def test_rows_that_ask_for_nothing_are_dropped_and_counted(write: Write) -> None:
    trace = read_trace(write("input_tokens,output_tokens\n0,5\n5,0\n0,0\n7,8\n9,1\n"))
    assert trace.num_rows == 5
    assert dict(trace.dropped) == {"no prompt tokens": 2, "no output tokens": 1}
    assert trace.prompt_tokens.tolist() == [7, 9]


def test_unsorted_rows_are_sorted_stably_and_counted(write: Write) -> None:
    text = "time,prompt_tokens,output_tokens\n5,1,1\n3,2,1\n3,3,1\n9,4,1\n"
    trace = read_trace(write(text))
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [0.0, 0.0, 2.0, 6.0]
    assert trace.prompt_tokens.tolist() == [2, 3, 1, 4]
    assert dict(trace.dropped) == {"out of order, sorted by time": 2}


def test_rows_of_one_moment_keep_their_order(write: Write) -> None:
    rows = "".join(f"{9 - i // 50},{i + 1},1\n" for i in range(200))
    trace = read_trace(write("time,isl,osl\n" + rows))
    expected = [i + 1 for lap in (150, 100, 50, 0) for i in range(lap, lap + 50)]
    assert trace.prompt_tokens.tolist() == expected


def test_time_starts_with_the_first_row_kept(write: Write) -> None:
    assert _lists(write("time,isl,osl\n1,5,0\n4,6,1\n9,7,1\n")) == ([0.0, 5.0], [6, 7], [1, 1])


def test_spaces_and_a_byte_order_mark_do_no_harm(write: Write) -> None:
    spaced = "time, isl, osl\n 2023-11-16 18:15:46 , 5, 6\n 2023-11-16 18:15:47, 7, 8\n  \n"
    assert _lists(write(spaced)) == ([0.0, 1.0], [5, 7], [6, 8])
    assert _lists(write('\ufeff[{"isl": 1, "osl": 2}]')) == (None, [1], [2])


MOONCAKE = '{"timestamp": 0, "input_length": 9, "output_length": 2, "hash_ids": [1, 2]}\n'
HEADER = "arrival_s,prompt_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (HEADER, "holds no requests"),
        ("[]", "holds no requests"),
        (HEADER + "1,2,3\n2,x,3\n", "row 3 of 't.csv': 'prompt_tokens' is 'x', not a whole number"),
        (HEADER + "1,2,3\n\n2,2,\n", "row 4 of 't.csv': 'output_tokens' is '', not a whole"),
        (HEADER + "1,-2,3\n", "row 2 of 't.csv': 'prompt_tokens' is '-2'"),
        (HEADER + "1,2.5,3\n", "row 2 of 't.csv': 'prompt_tokens' is '2.5'"),
        (HEADER + "1,nan,3\n", "row 2 of 't.csv': 'prompt_tokens' is 'nan'"),
        (HEADER + "1,inf,3\n", "row 2 of 't.csv': 'prompt_tokens' is 'inf'"),
        (HEADER + "1,9e99,3\n", "row 2 of 't.csv': 'prompt_tokens' is '9e99'"),
        (HEADER + "soon,2,3\n", "row 2 of 't.csv': 'arrival_s' is 'soon', not a time"),
        (HEADER + "nan,2,3\n", "row 2 of 't.csv': 'arrival_s' is 'nan', not a time"),
        (HEADER + "-1,2,3\n", "row 2 of 't.csv': 'arrival_s' is '-1', not a time"),
        (HEADER + "1,2\n", "row 2 of 't.csv' has 2 fields where the header has 3"),
        (HEADER + '1,2,"3\n', "of 't.csv' is not valid CSV"),
        (AZURE + "\n2023-13-45 18:15:46,1,1\n", "row 4 of 't.csv': 'TIMESTAMP' is '2023-13-45"),
        (AZURE + "\n17,1,1\n", "row 4 of 't.csv': 'TIMESTAMP' is '17', not a date"),
        ("a,b\n1,2\n", "has the columns 'a', 'b'; needed are one for the prompt tokens"),
        (",\n1,2\n", "has the columns '', ''; needed"),
        (HEADER + ",,\n", "row 2 of 't.csv': 'arrival_s' is '', not a time"),
        ('"prompt\ntokens",b\n1,2\n', "has the columns 'prompt\\ntokens', 'b'; needed"),
        ("374,44\n1,2\n", "has the columns '374', '44'; needed"),
        ('[{"id": 1, "conversations": []}]', "none of its 1 rows has a message from 'human'"),
        ('[{"conversations": "Hi"}]', "row 1 of 't.csv': 'conversations' is 'Hi', not a list"),
        ('[{"conversations": []}, {}]', "row 2 of 't.csv' has no 'conversations'"),
        ("conversations,id\nHi,1\n", "row 2 of 't.csv': 'conversations' is 'Hi', not a list"),
        (MOONCAKE + MOONCAKE.replace("[1, 2]", "7"), "row 2 of 't.csv': 'hash_ids' is 7, not a"),
        (MOONCAKE.replace("[1, 2]", "[1, true]"), "row 1 of 't.csv': 'hash_ids' is [1, True]"),
        (MOONCAKE + MOONCAKE.replace("hash_ids", "x"), "row 2 of 't.csv' has no 'hash_ids'"),
        ('[{"prompt": 1}, 5]', "row 2 of 't.csv' is not an object"),
        ('[{"prompt": 1, "max_tokens": true}]', "row 1 of 't.csv': 'max_tokens' is True"),
        ('[{"prompt": "Hello", "max_tokens": 1}]', "row 1 of 't.csv': 'prompt' is 'Hello'"),
        ('[{"prompt": null, "max_tokens": 1}]', "row 1 of 't.csv': 'prompt' is None"),
        ('[{"prompt": 1, "max_tokens": 2}, {"prompt": 1}]', "row 2 of 't.csv' has no 'max_tokens'"),
        ('[{"prompt": 1, ', "'t.csv' is not valid JSON"),
        ('{"isl": 1, "osl": 2}\n{"isl": 1', "row 2 of 't.csv' is not valid JSON"),
        ("[" * 100_000, "'t.csv' is not usable JSON"),
        ("prompt_tokens,output_tokens\n0,3\n3,0\n", "no usable row: every one of its 2 rows"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "neither CSV nor JSON but binary data"),
        (b"prompt\x00,output\n1,2\n", "neither CSV nor JSON but binary data"),
        (gzip.compress(AZURE.encode())[:-9], "truncated or damaged gzip"),
        (b"\x1f\x8bjunk", "truncated or damaged gzip"),
    ],
)
def test_an_unusable_file_gets_one_sentence(
    write: Write, content: str | bytes, sentence: str
) -> None:
    path = write(content)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_trace(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_trace(tmp_path / "absent.csv")


def test_the_real_azure_trace_is_read_whole(real_trace: Callable[[str], Path]) -> None:
    trace = read_trace(real_trace("azure-conv-2023.csv"))
    assert trace.format == "azure-csv"
    assert (len(trace), trace.num_rows, trace.dropped) == (19_366, 19_366, ())
    assert trace.span_s == pytest.approx(3501.721937, abs=1e-9)
    assert np.median(trace.prompt_tokens) == 1020
    assert trace.output_tokens.max() == 1000


def test_the_real_osc_lengths_are_read_whole(real_trace: Callable[[str], Path]) -> None:
    trace = read_trace(real_trace("osc-llama2-lengths.json"))
    assert (trace.format, len(trace), trace.arrival_s) == ("lengths-json", 2000, None)
    assert trace.prompt_tokens.mean() == pytest.approx(372.523)
    assert trace.output_tokens.mean() == pytest.approx(45.309)


def test_a_reordered_trace_serves_the_same_rows(write: Write) -> None:
    rows = [{"arrival_s": t, "isl": 10 + t, "osl": 1} for t in range(20)]
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(20)]
    in_order = _lists(write(json.dumps(rows), "a.json"))
    assert _lists(write(json.dumps(shuffled), "b.json")) == in_order


def test_prefix_hashes_stay_with_their_rows(write: Write) -> None:
    rows = [(6000, 1024, 5, [1, 2]), (3000, 512, 5, [1]), (0, 512, 0, [9]), (9000, 100, 5, [])]
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    text = "".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    trace = read_trace(write(text, "m.jsonl"))
    assert trace.prompt_tokens.tolist() == [512, 1024, 100]
    assert trace.prefix_hashes == ((1,), (1, 2), ())
    assert dict(trace.dropped) == {"no output tokens": 1, "out of order, sorted by time": 1}


def test_a_trace_that_names_no_prefixes_holds_none(write: Write) -> None:
    assert read_trace(write(AZURE)).prefix_hashes is None
    csv_with_hashes = "timestamp,input_length,output_length,hash_ids\n0,5,5,[1]\n"
    assert read_trace(write(csv_with_hashes)).prefix_hashes is None


def test_burstgpt_failures_are_dropped_and_counted(write: Write) -> None:
    trace = read_trace(
        write(
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,"
            "Log Type\n5,1,2,ChatGPT,472,18,490,Conversation log\n"
            "45,1,0,ChatGPT,1087,0,1087,API log\n118,2,3,GPT-4,417,276,693,Conversation log\n"
        )
    )
    assert trace.format == "burstgpt-csv"
    assert dict(trace.dropped) == {"no output tokens": 1}
    assert trace.arrival_s is not None
    assert trace.arrival_s.tolist() == [0.0, 113.0]
    assert trace.prompt_tokens.tolist() == [472, 417]
    assert not trace.is_approximated


def _conversation(*messages: tuple[str, object]) -> dict[str, object]:
    return {"id": "x", "conversations": [{"from": who, "value": text} for who, text in messages]}


@pytest.mark.parametrize("layout", ["json", "jsonl"])
def test_conversations_give_one_estimated_request_each(write: Write, layout: str) -> None:
    rows = [
        _conversation(("human", "a" * 40), ("gpt", "b" * 9), ("human", "c" * 99), ("gpt", "d")),
        _conversation(
            ("system", "s" * 80), ("gpt", "e" * 8), ("user", "f"), ("assistant", "ü" * 4)
        ),
        _conversation(("human", "nobody"), ("human", "answers")),
        _conversation(("gpt", "first")),
        _conversation(("human", 12345), ("gpt", "no text before")),
        {"conversations": ["human", {"from": "gpt"}, None]},
        {"conversations": [{"from": who, "characters": 10**30} for who in ("human", "gpt")]},
        _conversation(("human", "g" * 8), ("gpt", "")),
    ]
    text = json.dumps(rows) if layout == "json" else "\n".join(map(json.dumps, rows))
    trace = read_trace(write(text, "sharegpt"))
    assert (trace.format, trace.num_rows) == (f"sharegpt-{layout}", 8)
    assert trace.prompt_tokens.tolist() == [10, 1]
    assert trace.output_tokens.tolist() == [3, 1]
    assert trace.arrival_s is None
    assert trace.is_approximated
    assert dict(trace.dropped) == {
        "no human message followed by an answer": 5,
        "no output tokens": 1,
    }


def test_the_texts_of_conversations_are_not_kept_beside_the_file(write: Write) -> None:
    count, size = 200, 20_000
    rows = [_conversation(("human", "a" * size), ("gpt", "b" * size)) for _ in range(count)]
    path = write(json.dumps(rows), "large.json")
    num_bytes = path.stat().st_size
    del rows
    tracemalloc.start()
    try:
        read_trace(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The file and its text make two; texts of parsed rows would make three.
    assert peak < 2.2 * num_bytes


def test_the_real_mooncake_trace_keeps_its_hashes(real_trace: Callable[[str], Path]) -> None:
    trace = read_trace(real_trace("mooncake-conversation.jsonl"))
    assert (trace.format, len(trace), trace.dropped) == ("mooncake-jsonl", 12_031, ())
    assert trace.prefix_hashes is not None
    blocks = [-(-tokens // 512) for tokens in trace.prompt_tokens.tolist()]
    assert [len(hashes) for hashes in trace.prefix_hashes] == blocks
