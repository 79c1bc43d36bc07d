"""The files of a measured host: what is written is what --host reads; nothing is measured."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.executors.profiling.measurements import HostMeasurements
from apexbench.engine.hardware import load_host
from apexbench.engine.profile_files import Constant
from apexbench.profiling.constants import host_constants, read_limit
from apexbench.profiling.profile import ProfiledHost, profiled, to_json, to_toml
from apexbench.profiling.toml_text import render
from tests.host_measurements import NOISY, measurements

BASE = load_host("g4dn.4xlarge")


def host(measured: HostMeasurements | None = None) -> ProfiledHost:
    return profiled(
        "mine", measured or measurements(), BASE, created_at="2026-01-02T03:04:05", version="9.9"
    )


def test_the_file_is_a_host_profile_that_says_what_was_fitted(tmp_path: Path) -> None:
    made, path = host(), tmp_path / "mine.toml"
    path.write_text(to_toml(made))
    loaded = load_host(str(path))
    assert (loaded.name, loaded.title) == ("mine", made.title)
    assert made.title == "Test CPU, 2 cores, 24 GiB, measured 2026-01-02"
    for name, constant in made.constants.items():
        assert getattr(loaded, name) == constant
    assert loaded.attention is not None
    assert len(loaded.attention.curves) == len(made.curves) == 8
    for curve, fitted in zip(loaded.attention.curves, made.curves, strict=True):
        for name in ("dtype", "gqa_group", "threads", "gb_per_s", "row_us", "dispatch_us",
                     "tokens", "factors"):  # fmt: skip
            assert getattr(curve, name) == getattr(fitted, name)
    assert loaded.default_threads == 1


def test_the_file_says_how_good_its_model_is_and_under_what_circumstances() -> None:
    data = tomllib.loads(to_toml(host()))
    model = data["attention"][0]["fit"]
    assert model["model"] == "interpolated"
    curve, line = model["interpolated"], model["line"]
    assert curve["seen"]["largest"] < 0.01 < 0.05 < line["seen"]["largest"]
    assert curve["held_out"]["jobs"] == line["held_out"]["jobs"] == 1
    assert curve["held_out"]["median"] < line["held_out"]["median"]
    circumstances = data["circumstances"]
    assert circumstances["quiet"] is True
    assert circumstances["date"] == "2026-01-02T03:04:05"
    assert circumstances["versions"]["apexbench"] == "9.9"
    assert circumstances["threads"] == [1, 2]
    assert circumstances["base_host"] == "g4dn.4xlarge"
    assert "governor" not in circumstances  # the system does not say
    assert data["measurements"]["copies"][0]["timing"]["seconds"] == 1e-4
    assert len(data["measurements"]["read_limits"]) == 6


def test_what_needs_a_gpu_is_carried_over_and_says_so() -> None:
    constants = host().constants
    for name in ("eager_layer_us", "captured_layer_us"):
        carried, original = constants[name], getattr(BASE, name)
        assert carried.kind == "inferred"
        assert (carried.value, carried.sigma) == (original.value, original.sigma)
        assert carried.source.startswith("carried over from host 'g4dn.4xlarge'")
        assert carried.source.endswith(original.source)
    measured = [name for name, constant in constants.items() if constant.kind == "measured"]
    assert len(measured) == len(constants) - 2


def test_engine_constants_are_the_line_through_the_steps() -> None:
    constants = host_constants(measurements(), BASE)
    assert constants["eager_step_us"].value == pytest.approx(5.0 + 300, rel=1e-3)
    assert constants["eager_row_us"].value == pytest.approx(0.25, rel=1e-3)
    assert constants["captured_row_us"].value == constants["eager_row_us"].value
    assert "GPU's inputs is not in it" in constants["eager_step_us"].source


def test_read_limits_are_medians_with_what_they_wander() -> None:
    reads = measurements().reads
    one, two = read_limit(reads, 1), read_limit(reads, 2)
    assert (one.value, two.value) == (26.0, 40.4)
    assert one.sigma > two.sigma > 0.005
    assert "1 thread, memory that no cache holds, 3 times" in one.source


def test_calling_from_python_is_part_of_a_dispatch() -> None:
    made = {(c.dtype, c.gqa_group, c.threads): c for c in host().curves}
    assert made["fp16", 1, 1].dispatch_us.value == pytest.approx(68.0, abs=0.1)  # 5 + (4 - 1) + 60
    assert made["fp16", 1, 2].dispatch_us.value == pytest.approx(65.0, abs=0.1)  # nobody knows
    assert "3.0 us of calling it from Python" in made["fp16", 1, 1].dispatch_us.source


def test_a_busy_machine_and_missing_parts_are_said_everywhere() -> None:
    made = host(measurements(quiet_during=NOISY, missing=("part of the second round",)))
    assert made.warnings == (
        "the machine was not quiet during the run: other processes took 40% of the CPUs",
        "time did not suffice for: part of the second round",
    )
    text, data = to_toml(made), json.loads(to_json(made))
    assert all(f"# Mind: {warning}." in text for warning in made.warnings)
    circumstances = tomllib.loads(text)["circumstances"]
    assert circumstances["quiet"] is False
    assert circumstances["quiet_during"]["other_cpu_fraction"] == 0.4
    assert data["warnings"] == list(made.warnings)


def test_json_has_every_point(tmp_path: Path) -> None:
    measured = measurements()
    data = json.loads(to_json(host(measured)))
    points = data["measurements"]["attention"]
    assert len(points) == len(measured.attention)
    assert points[0]["seconds"] == measured.attention[0].seconds
    assert data["kind"] == "host_profile"
    assert data["constants"]["core_gb_per_s"]["value"] == 26.0


def test_curves_without_held_out_jobs_have_no_such_error() -> None:
    measured = measurements()
    seen = tuple(one for one in measured.attention if not one.is_held_out)
    data = tomllib.loads(to_toml(host(replace(measured, attention=seen))))
    assert "held_out" not in data["attention"][0]["fit"]["line"]


texts = st.text(st.characters(codec="utf-8"))
scalars = st.one_of(
    texts, st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e300, 1e300), st.none()
)


@given(
    top=st.dictionaries(st.text(min_size=1, alphabet="abc_é -."), scalars),
    inner=st.dictionaries(st.text(min_size=1, alphabet="xyz"), st.lists(st.integers())),
)
def test_any_table_is_read_back(top: dict[str, Any], inner: dict[str, Any]) -> None:
    text = render([("", top), ("section", {"inner": inner}), ("[many]", {"a": 1})], ["heading"])
    data = tomllib.loads(text)
    assert data.pop("many") == [{"a": 1}]
    assert data.pop("section") == {"inner": inner}
    assert data == {key: value for key, value in top.items() if value is not None}


def test_a_constant_takes_one_line() -> None:
    constant = Constant(2.0, "us", 'a "source"', "measured", 0.25)
    text = render([("constants", {"row_us": constant})])
    line = 'row_us = { value = 2, unit = "us", kind = "measured", sigma = 0.25, source = '
    assert text == f'\n[constants]\n{line}"a \\"source\\"" }}\n'
