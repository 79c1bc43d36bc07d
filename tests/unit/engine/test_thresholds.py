from dataclasses import fields

import pytest

from apexbench.engine.policies.registry import list_policies
from apexbench.engine.thresholds import RANGES, Thresholds, with_overrides
from apexbench.errors import UsageError


def test_every_threshold_has_a_range_and_a_policy_that_listens() -> None:
    names = {field.name for field in fields(Thresholds)}
    assert names == set(RANGES)
    assert names == {name for entry in list_policies() for name in entry.thresholds}


def test_defaults_are_legal() -> None:
    defaults = {f.name: getattr(Thresholds(), f.name) for f in fields(Thresholds)}
    given = {name: value for name, value in defaults.items() if value is not None}
    assert with_overrides(Thresholds(), given) == Thresholds()


def test_overrides_are_converted() -> None:
    changed = with_overrides(Thresholds(), {"max_running_rows": "64", "two_batch_bias": "2"})
    assert (changed.max_running_rows, changed.two_batch_bias) == (64, 2.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "max_runing_rows",
            8,
            "unknown threshold 'max_runing_rows'; did you mean max_running_rows",
        ),
        ("max_running_rows", 7, "must be a whole number from 8 to 1024, not 7"),
        ("max_running_rows", 9.5, "must be a whole number"),
        ("gpu_kv_watermark", 0.5, "must be a number from 0 to 0.2, not 0.5"),
        ("gpu_kv_watermark", "nan", "must be a number"),
        ("gpu_kv_watermark", "much", "must be a number, not 'much'"),
        ("join_mode", "never", "must be one of wait, poll"),
    ],
)
def test_bad_overrides_get_one_sentence(name, value, message) -> None:
    with pytest.raises(UsageError, match=message):
        with_overrides(Thresholds(), {name: value})
