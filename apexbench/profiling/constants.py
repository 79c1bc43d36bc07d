"""The constants of a measured host's profile: what was measured, and what is carried over."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from scipy.optimize import nnls

from apexbench.engine.executors.profiling.measurements import HostMeasurements, ReadLimit
from apexbench.engine.hardware import HostProfile
from apexbench.engine.profile_files import Constant
from apexbench.profiling.fitting import IQR_PER_SIGMA, LEAST_SPREAD

BYTES_PER_GIB = 1 << 30
US_PER_S = 1e6
# A GPU is needed to measure how fast its work is launched.
CARRIED_OVER = ("eager_layer_us", "captured_layer_us")


def host_constants(measured: HostMeasurements, base: HostProfile) -> dict[str, Constant]:
    """All constants that a host profile needs, in the order of the profiles that come with us."""
    step, row = _engine(measured)
    captured = "; capture changes nothing about it"
    return {
        "cores": Constant(measured.cores, "cores", "cores this process may use", "measured", 0),
        "memory_gib": Constant(
            _rounded(measured.memory_bytes / BYTES_PER_GIB),
            "GiB",
            "memory of the machine or its control group, as the kernel says",
            "measured",
            0,
        ),
        "dram_peak_gb_per_s": read_limit(measured.reads, max(measured.threads)),
        "dram_sustained_fraction": Constant(
            1.0, "1", "dram_peak_gb_per_s is itself what reading sustains", "measured", 0
        ),
        "core_gb_per_s": read_limit(measured.reads, min(measured.threads)),
        "eager_step_us": step,
        "eager_row_us": row,
        "eager_layer_us": _carried(base, "eager_layer_us"),
        "captured_step_us": replace(step, source=step.source + captured),
        "captured_row_us": replace(row, source=row.source + captured),
        "captured_layer_us": _carried(base, "captured_layer_us"),
    }


def read_limit(reads: Sequence[ReadLimit], threads: int) -> Constant:
    """The median of the best reader's rates; sigma: its own spread, and how it went up and down."""
    found = [read for read in reads if read.threads == threads]
    rates = [read.gb_per_s for read in found]
    wander = float(np.std(rates, ddof=1) / np.mean(rates)) if len(rates) > 1 else 0.0
    own = median(read.spread for read in found) / IQR_PER_SIGMA
    source = (
        f"best of three readers, {threads} thread{'s' * (threads > 1)}, memory that no cache holds,"
        f" {len(found)} times during the run"
    )
    return Constant(_rounded(median(rates)), "GB/s", source, "measured", _sigma(wander, own))


def _engine(measured: HostMeasurements) -> tuple[Constant, Constant]:
    """Per step and per row: a line through the steps, weighted by their spreads."""
    seconds = np.array([step.timing.seconds for step in measured.steps])
    spreads = np.array([step.timing.spread / IQR_PER_SIGMA for step in measured.steps])
    terms = np.array([[1.0, step.rows] for step in measured.steps])
    weights = 1.0 / (seconds * np.maximum(spreads, LEAST_SPREAD))
    (step_s, row_s), _ = nnls(terms * weights[:, None], seconds * weights)
    missed = float(np.sqrt(np.mean((terms @ [step_s, row_s] / seconds - 1) ** 2)))
    sigma = _sigma(missed, float(np.median(spreads)))
    sizes = f"{measured.steps[0].rows} to {measured.steps[-1].rows} rows"
    source = f"Python time of Scheduler.schedule and commit, decode steps of {sizes}"
    lanes = (
        f", and {measured.lane_step_s * US_PER_S:.0f} us of an empty step of 32 layers through the"
        " engine's lanes; preparing a GPU's inputs is not in it"
    )
    whole_s = step_s + measured.lane_step_s
    return (
        Constant(_rounded(whole_s * US_PER_S), "us", source + lanes, "measured", sigma),
        Constant(_rounded(row_s * US_PER_S), "us", source, "measured", sigma),
    )


def _carried(base: HostProfile, name: str) -> Constant:
    """As the base host has it; a guess here, however sure it is there."""
    constant: Constant = getattr(base, name)
    source = f"carried over from host '{base.name}', a GPU is needed to measure it: "
    return replace(constant, kind="inferred", source=source + constant.source)


def _sigma(*parts: float) -> float:
    """Independent relative deviations together, in whole thousandths, never below half a per cent:
    no clock and no memory is steadier than that from one day to another.
    """
    return max(0.005, round(float(np.hypot.reduce(parts)), 3))


def _rounded(value: float) -> float:
    """Four significant digits: more would pretend."""
    return float(f"{value:.4g}")


def in_words(measured: HostMeasurements) -> Iterator[str]:
    """What its reader must know of this run, a sentence each without a full stop."""
    for when, quiet in (("before", measured.quiet_before), ("during", measured.quiet_during)):
        if not quiet.is_quiet:
            yield f"the machine was not quiet {when} the run: {quiet.reason}"
    if measured.missing:
        yield f"time did not suffice for: {', '.join(measured.missing)}"
