"""What profiles and the rule say without traffic, against closed formulas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apexbench.engine.deployment import deploy
from apexbench.paper.profiled import attention_rates, profile_sample, rule_share


@settings(deadline=None)
@given(st.floats(0.1, 4))
def test_the_implemented_rule_is_equation_six(x: float) -> None:
    assert rule_share(x) == pytest.approx(1 / (2 / x + 3 + x), rel=1e-6)


@pytest.mark.parametrize("gpu", ["l4", "a10g"])
def test_attention_rates_stay_below_the_memory_they_read(gpu: str) -> None:
    deployment = deploy(gpu)
    rates = attention_rates(deployment)
    assert 0 < rates.cpu_gb_per_s < deployment.host.dram_peak_gb_per_s.value
    assert 0 < rates.gpu_gb_per_s < deployment.gpu.dram_gb_per_s.value


@pytest.mark.parametrize(("cpu_us", "rows"), [(200.0, 1), (3031.0, 4), (20_000.0, 32)])
def test_the_sample_is_taken_at_the_context_that_fits(cpu_us: float, rows: int) -> None:
    deployment = deploy("l4")
    found = profile_sample(deployment, rows, cpu_us)
    costs = deployment.costs()
    assert costs.cpu_attention_ns(rows, rows * found.context) <= cpu_us * 1e3
    assert costs.cpu_attention_ns(rows, rows * (found.context + 1)) > cpu_us * 1e3
    assert found.gpu_s < found.cpu_s
