"""Where one curve overtakes another."""

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.reports.takeovers import LEAD, Takeover, leader_at, takeovers

VALUES = (1.0, 2.0, 4.0, 8.0)


def test_the_crossing_is_read_off_logarithmic_axes() -> None:
    flat, rising = {1.0: 10.0, 4.0: 10.0}, {1.0: 5.0, 4.0: 40.0}
    [found] = takeovers({"flat": flat, "rising": rising})
    assert (found.previous, found.name) == ("flat", "rising")
    assert found.value == pytest.approx(4.0 ** (1 / 3))
    assert leader_at({"flat": flat, "rising": rising}) == "flat"


def test_several_policies_take_over_in_turn() -> None:
    curves = {
        "a": dict(zip(VALUES, (10.0, 10.0, 10.0, 10.0), strict=True)),
        "b": dict(zip(VALUES, (5.0, 20.0, 20.0, 20.0), strict=True)),
        "c": dict(zip(VALUES, (1.0, 5.0, 10.0, 40.0), strict=True)),
    }
    found = takeovers(curves)
    assert [(change.previous, change.name) for change in found] == [("a", "b"), ("b", "c")]
    assert found[0].value == pytest.approx(sqrt(2.0))
    assert 4.0 < found[1].value < 8.0


def test_a_lead_of_less_than_a_hundredth_is_none() -> None:
    curves = {"a": {1.0: 10.0, 2.0: 10.0}, "b": {1.0: 9.0, 2.0: 10.0 * (LEAD - 0.001)}}
    assert takeovers(curves) == ()
    [late] = takeovers({**curves, "b": {**curves["b"], 2.0: 10.0 * (LEAD + 0.001)}})
    assert late.name == "b"


def test_only_values_that_all_have_are_compared() -> None:
    curves = {"a": {1.0: 10.0, 2.0: 10.0, 4.0: 1.0}, "b": {1.0: 9.0, 2.0: 9.0}}
    assert takeovers(curves) == ()
    assert takeovers({}) == ()
    assert takeovers({"a": {1.0: 1.0}, "b": {2.0: 2.0}}) == ()
    assert leader_at({}) is None


@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.lists(st.floats(0.1, 1e4), min_size=len(VALUES), max_size=len(VALUES)),
        min_size=1,
    )
)
def test_each_takeover_follows_the_one_before(rates: dict[str, list[float]]) -> None:
    curves = {name: dict(zip(VALUES, own, strict=True)) for name, own in rates.items()}
    found = takeovers(curves)
    leader = leader_at(curves)
    place = VALUES[0]
    for change in found:
        assert isinstance(change, Takeover)
        assert change.previous == leader != change.name
        assert place <= change.value <= VALUES[-1]
        leader, place = change.name, change.value
    last = {name: curve[VALUES[-1]] for name, curve in curves.items()}
    assert leader is not None
    assert last[leader] * LEAD >= max(last.values())
