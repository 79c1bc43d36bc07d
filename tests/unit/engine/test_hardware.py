import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apexbench.engine.hardware import (
    GpuProfile,
    HostProfile,
    default_host,
    list_cpu_kernels,
    list_gpus,
    list_hosts,
    load_cpu_kernel,
    load_gpu,
    load_host,
)
from apexbench.engine.profile_files import Constant
from apexbench.errors import InputError, UsageError

PROFILES = Path(__file__).parents[3] / "engine" / "profiles"
ALL = (*list_gpus(), *list_hosts(), *list_cpu_kernels())


def t4_with(tmp_path: Path, old: str, new: str) -> str:
    """A copy of the T4 profile with one replacement; returns its path."""
    text = (PROFILES / "gpu-t4.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    return str(path)


def test_the_documented_devices_exist() -> None:
    gpus = {gpu.name for gpu in list_gpus()}
    assert gpus >= {"t4", "t4:burst", "a10", "a10g", "l4", "rtx3090", "rtx4090", "a40", "l40s"}
    assert gpus >= {"a100-80g", "h100", "h200", "v100", "rtx3060-12g", "rtx3090ti"}
    sizes = ("xlarge", "2xlarge", "4xlarge", "8xlarge", "16xlarge")
    clouds = {f"{family}.{size}" for family in ("g4dn", "g5", "g6") for size in sizes}
    assert {host.name for host in list_hosts()} == clouds | {"xeon-6130x2", "xeon-6342x2"}
    assert {kernel.name for kernel in list_cpu_kernels()} == {"paper", "ispc", "apexbench"}


@pytest.mark.parametrize("profile", ALL, ids=lambda profile: profile.name)
def test_every_constant_reaches_the_report_with_its_circumstances(profile: GpuProfile) -> None:
    constants = profile.constants()
    named = {spec.name for spec in dataclasses.fields(profile)}
    assert {constant.name for constant in constants} <= named
    assert len(constants) >= 3
    for constant in constants:
        assert constant.device == profile.name
        assert constant.source.strip()
        # only what is counted or agreed on is exact
        assert constant.sigma > 0 or constant.kind in ("datasheet", "anchored")


def test_guesses_are_wider_than_measurements() -> None:
    widths: dict[str, list[float]] = {"inferred": [], "measured": []}
    for profile in ALL:
        for constant in profile.constants():
            if constant.kind in widths:
                widths[constant.kind].append(constant.sigma)
    assert min(widths["inferred"]) >= 0.15 >= max(widths["measured"])


@pytest.mark.parametrize("gpu", list_gpus(), ids=lambda gpu: gpu.name)
def test_default_hosts_exist(gpu: GpuProfile) -> None:
    if gpu.default_host:
        assert load_host(default_host(gpu)).name == gpu.default_host
    else:
        with pytest.raises(UsageError, match="has no default host; name one with --host"):
            default_host(gpu)


def test_burst_changes_compute_and_nothing_else() -> None:
    base, burst = load_gpu("t4"), load_gpu("t4:burst")
    changed = {
        spec.name
        for spec in dataclasses.fields(GpuProfile)
        if getattr(base, spec.name) != getattr(burst, spec.name)
    }
    efficiencies = {
        f"{op}_efficiency"
        for op in ("gemm_compute", "int8_compute", "int4_compute", "prefill_attention")
    }
    assert changed == {"name", "title"} | efficiencies


@given(
    host=st.sampled_from(list_hosts()),
    threads=st.integers(1, 64),
    is_gqa=st.booleans(),
    kernel=st.sampled_from(list_cpu_kernels()),
)
def test_no_kernel_reads_faster_than_its_cores_or_the_memory(
    host: HostProfile, threads: int, is_gqa: bool, kernel: object
) -> None:
    threads = min(threads, int(host.cores.value))
    rate = load_cpu_kernel(kernel.name).bytes_per_s(host, threads, is_gqa=is_gqa, dtype="fp16")  # type: ignore[attr-defined]
    assert 0 < rate <= host.dram_bytes_per_s(threads) <= host.dram_peak_gb_per_s.value * 1e9
    fewer = max(1, threads - 1)
    assert host.dram_bytes_per_s(fewer) <= host.dram_bytes_per_s(threads)


def test_the_papers_kernel_is_anchored_on_its_two_hosts() -> None:
    kernel = load_cpu_kernel("paper")
    for name, expected in (("xeon-6130x2", 18e9), ("xeon-6342x2", 24e9)):
        host = load_host(name)
        full = kernel.bytes_per_s(host, host.default_threads, is_gqa=False, dtype="fp16")
        half = kernel.bytes_per_s(host, host.default_threads // 2, is_gqa=False, dtype="fp16")
        assert full == expected
        assert half < full
    cloud = load_host("g4dn.4xlarge")
    assert kernel.bytes_per_s(cloud, 7, is_gqa=True, dtype="fp16") == pytest.approx(7 * 0.53e9)


def test_int8_needs_a_kernel_that_has_it() -> None:
    with pytest.raises(UsageError, match="CPU kernel 'ispc' has no mha_int8_efficiency"):
        load_cpu_kernel("ispc").bytes_per_s(
            load_host("xeon-6130x2"), 31, is_gqa=False, dtype="int8"
        )


def test_unknown_names_list_near_matches() -> None:
    with pytest.raises(UsageError, match="unknown gpu 't5'; did you mean t4"):
        load_gpu("t5")
    with pytest.raises(UsageError, match=r"unknown host 'g4dn.4xl'; did you mean g4dn.4xlarge"):
        load_host("g4dn.4xl")


def test_profile_of_the_user(tmp_path: Path) -> None:
    path = t4_with(tmp_path, 'name = "t4"', 'name = "mine"')
    assert load_gpu(path).name == "mine"
    assert load_gpu(path).peak_tflops == load_gpu("t4").peak_tflops
    assert load_gpu(f"{path}:t4:burst").gemm_compute_efficiency.value == 0.65
    with pytest.raises(InputError, match=r"defines no gpu 'turbo'; it defines: mine, t4:burst"):
        load_gpu(f"{path}:turbo")


PEAK = 'peak_tflops = { value = 65, unit = "TFLOP/s", kind = "datasheet", sigma = 0.02,'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("peak_tflops", "peak_teraflops", "unknown key 'peak_teraflops'; did you mean peak_tflops"),
        (PEAK, f"# {PEAK}", "key 'peak_tflops' is missing"),
        ("value = 65", "value = nan", "key 'peak_tflops' has value nan; expected a finite number"),
        ("value = 65", "value = inf", "has value inf"),
        ("value = 65", "value = -65", "has value -65; expected a finite number, not negative"),
        ("value = 65", "value = 0", "has value 0; expected one above zero"),
        ("value = 65", "value = true", "has value True"),
        ("value = 65", 'value = "65"', "has value '65'"),
        ("value = 0.35", "value = 35", "has value 35; expected one above zero and at most 1"),
        ('"TFLOP/s"', '"FLOP/s"', "key 'peak_tflops' is in 'FLOP/s'; expected 'TFLOP/s'"),
        ('"datasheet"', '"rumour"', "has kind 'rumour'; expected one of measured, datasheet"),
        ("sigma = 0.02", "sigma = nan", "key 'peak_tflops' has sigma nan"),
        ("sigma = 0.02, ", "", "must be a table with exactly value, unit, kind, sigma, source"),
        ("supports_bf16 = false", "supports_bf16 = 0", "'supports_bf16' is 0; expected a bool"),
        ('role = "gpu"', 'role = "host"', "has role 'host'; expected 'gpu'"),
        ('role = "gpu"', "", "has role None; expected 'gpu'"),
        ("[constants]", "[constants", "is not valid TOML"),
        ("[constants]", "[[constants]]", "'constants' is .* expected a table"),
    ],
)
def test_malformed_profile_names_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = t4_with(tmp_path, old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_gpu(path)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_source_may_not_be_empty(tmp_path: Path) -> None:
    path = t4_with(tmp_path, 'source = "datasheet"', 'source = " "')
    with pytest.raises(InputError, match="key 'num_sms' has no source"):
        load_gpu(path)


def test_unreadable_profiles(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read profile .*gone\.toml'"):
        load_gpu(str(tmp_path / "gone.toml"))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_host(str(binary))
    empty = tmp_path / "empty.toml"
    empty.write_text('role = "gpu"\n')
    with pytest.raises(InputError, match="defines no gpu; it defines: none"):
        load_gpu(str(empty))


def test_constants_are_values_with_units() -> None:
    peak = load_gpu("t4").peak_tflops
    assert isinstance(peak, Constant)
    assert (peak.value, peak.unit, peak.kind) == (65.0, "TFLOP/s", "datasheet")
