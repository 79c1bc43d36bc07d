"""What swept parameters are called and how their values are written; no sentences."""

from apexbench.reports.outcome import BASELINE, Outcome
from apexbench.reports.wording import THIN, number

_NAMES = {
    "gpu_kv_tokens": "GPU KV tokens",
    "gpu_memory_utilization": "GPU memory utilization",
    "cpu_attention_gbps": "CPU attention GB/s",
    "cpu_threads": "CPU threads",
    "max_batched_tokens": "tokens per step at most",
    "max_running_rows": "running rows at most",
    "output_scale": "output length, multiple",
}


def swept_words(parameter: str) -> str:
    """Name of a parameter with its unit; an unknown one as it is called in the document."""
    return _NAMES.get(parameter, parameter)


def swept_value(value: float) -> str:
    """Counts in full, other numbers as short as they are."""
    if value == int(value):
        return f"{int(value):,}".replace(",", THIN)
    return number(value)


def own_weights(outcome: Outcome) -> frozenset[str]:
    """Variants with the weights of the setting itself, as the baseline has them."""
    dtypes = {run.variant: run.weight_dtype for run in outcome.result.runs}
    base = dtypes.get(BASELINE)
    return frozenset(name for name, dtype in dtypes.items() if base is None or dtype == base)
