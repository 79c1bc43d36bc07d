"""When requests end, and that text which may be cut off is never shown."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.model.sampling_params import SamplingParams
from apexbench.engine.model.stopping import Completion, FinishReason
from apexbench.errors import InvariantError, UsageError

EOS = (90, 91)


class Pieces:
    """A stream whose token t is the t-th piece; the rest comes at the end."""

    def __init__(self, pieces: list[str], rest: str = "") -> None:
        self.pieces, self.rest = pieces, rest

    def push(self, token: int) -> str:
        return self.pieces[token]

    def flush(self) -> str:
        return self.rest


def completion(pieces: list[str] | None, rest: str = "", **changes: Any) -> Completion:
    params = SamplingParams(**{"max_tokens": 50, **changes})
    return Completion(params, EOS, None if pieces is None else Pieces(pieces, rest))


def run(own: Completion, count: int) -> list[str]:
    """What is shown after each token until it ends."""
    shown = []
    for token in range(count):
        reason = own.accept(token)
        shown.append(own.take_text())
        if reason is not None:
            break
    return shown


def test_the_last_token_allowed_ends_with_its_text() -> None:
    own = completion(["a", "b", "c"], max_tokens=2)
    assert run(own, 3) == ["a", "b"]
    assert (own.finish, own.token_ids, own.text) == (FinishReason.LENGTH, [0, 1], "ab")


@pytest.mark.parametrize("token", EOS)
def test_eos_ends_without_text_unless_ignored(token: int) -> None:
    own = completion(["x"] * 99, rest="…")
    assert own.accept(0) is None
    assert own.accept(token) is FinishReason.EOS
    assert (own.text, own.token_ids, own.take_text()) == ("x…", [0, token], "x…")
    ignoring = completion(["x"] * 99, ignore_eos=True)
    assert ignoring.accept(token) is None
    assert ignoring.text == "x"


def test_stop_tokens_end_even_where_eos_is_ignored() -> None:
    own = completion(["x"] * 99, stop_token_ids=(7, 90), ignore_eos=True)
    assert own.accept(90) is FinishReason.STOP_TOKEN
    assert own.text == ""


def test_eos_as_the_last_token_allowed_is_eos() -> None:
    assert completion(None, max_tokens=1).accept(90) is FinishReason.EOS


def test_tokens_alone_need_no_tokenizer() -> None:
    own = completion(None, max_tokens=2)
    assert run(own, 5) == ["", ""]
    assert (own.finish, own.text) == (FinishReason.LENGTH, "")
    with pytest.raises(UsageError, match="stop strings need a tokenizer"):
        completion(None, stop=("x",))


def test_a_stop_string_over_several_tokens_is_cut_off() -> None:
    own = completion(["Hello ", "wor", "ld. E", "N", "Dless", "more"], stop=("END",))
    assert run(own, 6) == ["Hello ", "wor", "ld. ", "", ""]
    assert (own.finish, own.text) == (FinishReason.STOP_STRING, "Hello world. ")
    assert own.token_ids == [0, 1, 2, 3, 4]


def test_a_beginning_that_comes_to_nothing_is_shown() -> None:
    own = completion(["aE", "N", "x", "E"], stop=("END",), max_tokens=4)
    assert run(own, 4) == ["a", "", "ENx", "E"]
    assert (own.finish, own.text) == (FinishReason.LENGTH, "aENxE")


def test_a_stop_string_may_come_with_the_rest_of_the_last_character() -> None:
    own = completion(["a", "b"], rest="cd", stop=("bc",), max_tokens=2)
    assert run(own, 2) == ["a", ""]
    assert (own.finish, own.text) == (FinishReason.STOP_STRING, "a")


def test_nothing_is_taken_after_the_end() -> None:
    own = completion(["a", "b"], max_tokens=1)
    own.accept(0)
    with pytest.raises(InvariantError, match="after it had ended"):
        own.accept(1)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab ", min_size=1, max_size=25),
    stops=st.lists(st.text("ab ", min_size=1, max_size=5), max_size=3),
    data=st.data(),
)
def test_text_does_not_depend_on_how_it_is_cut_into_tokens(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text)))) | {len(text)})
    pieces = [text[start:end] for start, end in zip([0, *cuts], cuts, strict=False)]
    own = completion(pieces, max_tokens=len(pieces), stop=tuple(stops))
    shown = "".join(run(own, len(pieces)))
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    expected = text[: min(ends)[1]] if ends else text
    assert shown == own.text == expected
    assert own.finish is (FinishReason.STOP_STRING if ends else FinishReason.LENGTH)


@settings(max_examples=100, deadline=None)
@given(text=st.text("ab", max_size=20), stop=st.text("ab", min_size=1, max_size=4))
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stop: str) -> None:
    own = completion(list(text), stop=(stop,))
    for token, _ in enumerate(text):
        if own.accept(token):
            return
        held = text[: token + 1][len(own.text) :]
        assert stop.startswith(held)
        assert text.startswith(own.text)
