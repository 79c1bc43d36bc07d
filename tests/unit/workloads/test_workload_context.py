"""The context limit: how it is written, what it drops and how it cuts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.errors import UsageError
from apexbench.workloads.context import ContextLimit, cut_hashes


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("4096", ContextLimit(4096, "drop")),
        ("4096:drop", ContextLimit(4096, "drop")),
        ("100:clip", ContextLimit(100, "clip")),
    ],
)
def test_a_limit_is_a_number_and_perhaps_a_mode(text: str, limit: ContextLimit) -> None:
    assert ContextLimit.parse(text) == limit


@pytest.mark.parametrize("text", ["", "x", "4096:", "4096:cut", "-5", "4.5", "4096:drop:clip", "²"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"write a number of tokens, as in 4096, 4096:drop"):
        ContextLimit.parse(text)


def test_a_limit_leaves_room_for_one_token_each_way() -> None:
    with pytest.raises(UsageError, match="at least 2 tokens"):
        ContextLimit(1)


def test_exactly_the_limit_fits() -> None:
    over = ContextLimit(10).over(np.array([6, 6]), np.array([4, 5]))
    assert over.tolist() == [False, True]


def test_clip_cuts_the_prompt_to_one_token_before_it_touches_the_output() -> None:
    prompt, output = ContextLimit(10, "clip").clip(
        np.array([3, 20, 20, 1]), np.array([4, 4, 30, 30])
    )
    assert prompt.tolist() == [3, 6, 1, 1]
    assert output.tolist() == [4, 4, 9, 9]


@given(st.integers(1, 600), st.integers(1, 5000), st.data())
def test_hashes_of_a_cut_prompt_are_those_of_its_whole_blocks(
    block: int, prompt: int, data: st.DataObject
) -> None:
    hashes = tuple(range(-(-prompt // block)))
    cut = data.draw(st.integers(1, prompt))
    (kept,) = cut_hashes((hashes,), np.array([prompt]), np.array([cut]))
    if cut == prompt:
        assert kept == hashes
        return
    assert kept == hashes[: len(kept)]
    # Never a block that was cut into, and of whole ones at most a share of one block in each lost.
    assert len(kept) <= cut // block
    assert len(kept) >= cut // block - -(-cut // prompt) - 1


def test_a_prompt_without_hashes_stays_without() -> None:
    assert cut_hashes(((), (5,)), np.array([9, 9]), np.array([4, 4])) == ((), ())
