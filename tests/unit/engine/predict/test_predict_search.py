"""The search against trying everything."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.predict.search import Climb, Point, Score


@given(st.integers(0, 40), st.floats(0, 60), st.floats(0, 60), st.floats(-0.6, 0.6))
def test_finds_the_top_of_any_hill(total: int, x: float, y: float, tilt: float) -> None:
    def score(point: Point) -> Score:
        a, b = point[0] - x, point[1] - y
        return (-(a * a) - b * b - tilt * a * b,)

    every = [p for p in product(range(total + 1), repeat=2) if sum(p) <= total]
    assert score(Climb((0, 0), total, score).best()) == max(map(score, every))


@given(st.integers(1, 800), st.integers(1, 800))
def test_finds_a_corner_of_a_slope_and_the_edge_of_a_constraint(total: int, edge: int) -> None:
    assert Climb((1,), total, lambda p: (p[0],)).best() == (total,)
    assert Climb((1,), total, lambda p: (-p[0],)).best() == (1,)
    kept = Climb((1,), total, lambda p: (1, p[0]) if p[0] <= edge else (0, -p[0])).best()
    assert kept == (min(edge, total),)


def test_nothing_to_choose_is_chosen() -> None:
    assert Climb((), 5, lambda _: (1.0,)).best() == ()


def test_asks_for_each_point_once_and_never_for_one_outside() -> None:
    asked: list[Point] = []

    def score(point: Point) -> Score:
        asked.append(point)
        return (point[0] * point[1],)

    assert Climb((1, 2), 20, score).best() == (10, 10)
    assert len(set(asked)) == len(asked)
    assert all(a >= 1 and b >= 2 and a + b <= 20 for a, b in asked)
