"""Learning how far a belief is off."""

import pytest

from apexbench.engine.policies.calibration import Calibration


def learn(made: Calibration, actual: float, steps: int, **kwargs: float | bool) -> None:
    """Steps that really take `actual` times what the belief alone says."""
    for _ in range(steps):
        has_cpu_rows = bool(kwargs.get("has_cpu_rows"))
        cpu_share = float(kwargs.get("cpu_share", 0.0))
        corrected = made.scale * (made.cpu_ratio**cpu_share if has_cpu_rows else 1.0)
        made.observe(1e9 * corrected, 1e9 * actual, has_cpu_rows=has_cpu_rows, cpu_share=cpu_share)


def test_it_begins_with_the_belief() -> None:
    made = Calibration()
    assert (made.scale, made.cpu_ratio) == (1.0, 1.0)


@pytest.mark.parametrize("actual", [0.6, 1.0, 1.7])
def test_steps_without_cpu_rows_teach_the_scale(actual: float) -> None:
    made = Calibration()
    learn(made, actual, 200)
    assert made.scale == pytest.approx(actual, rel=0.01)
    assert made.cpu_ratio == 1.0


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("actual", [0.8, 1.5])
def test_steps_that_wait_for_the_cpu_teach_its_ratio(share: float, actual: float) -> None:
    made = Calibration()
    learn(made, actual**share, 400, has_cpu_rows=True, cpu_share=share)
    assert made.cpu_ratio == pytest.approx(actual, rel=0.02)
    assert made.scale == 1.0


def test_a_hidden_cpu_teaches_only_when_it_emerges() -> None:
    made = Calibration()
    learn(made, 1.04, 100, has_cpu_rows=True)
    assert made.cpu_ratio == 1.0
    made.observe(1e9, 1.2e9, has_cpu_rows=True, cpu_share=0.0)
    assert made.cpu_ratio > 1.0


def test_one_wild_step_changes_little() -> None:
    made = Calibration()
    made.observe(1e9, 1e12, has_cpu_rows=False, cpu_share=0.0)
    assert made.scale < 1.03


def test_what_is_not_used_is_tried_again() -> None:
    made = Calibration()
    for _ in range(50):
        made.observe(1e9, 1.5e9, has_cpu_rows=True, cpu_share=1.0)
    slow = made.cpu_ratio
    learn(made, 1.0, 4000)
    assert 1.0 < made.cpu_ratio < slow**0.2


def test_it_stays_within_reason() -> None:
    made = Calibration()
    for _ in range(10_000):
        made.observe(1e9, 2e9, has_cpu_rows=True, cpu_share=1.0)
    assert made.cpu_ratio == pytest.approx(8.0)
