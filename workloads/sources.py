"""Where requests come from, by name: presets, synthetic lengths, trace files; serves nothing."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apexbench.errors import UsageError, unknown_name
from apexbench.result import Slo
from apexbench.workloads.conversations import ESTIMATE
from apexbench.workloads.lengths import Distribution, Fixed, LogNormal, Marginals, Uniform
from apexbench.workloads.presets import PRESETS, RELAXED, Preset
from apexbench.workloads.readers import read_trace
from apexbench.workloads.trace import Trace

# Decoding this many tokens takes far longer than the prefill: decode attention decides the run.
LONG_OUTPUT_TOKENS = 1000

# Every way to write a workload, with its meaning; presets are listed by their names.
FORMS = {
    "fixed:IN/OUT": "every request the same, in tokens",
    "uniform:LO-HI/LO-HI": "prompt and output lengths equally likely between bounds",
    "lognormal:P50-P95/P50-P95": "log-normal lengths by median and 95th percentile",
    "trace:PATH": "rows of a trace file (CSV, JSON or JSONL, also .gz)",
}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Traffic by name. `is_approximated`: its lengths are assumed, not measured or asked for."""

    name: str
    citation: str
    lengths: Marginals | Trace
    default_slo: Slo = RELAXED
    is_approximated: bool = False

    @property
    def has_arrivals(self) -> bool:
        """Whether it brings its own timestamps."""
        return isinstance(self.lengths, Trace) and self.lengths.arrival_s is not None

    @property
    def is_long_output(self) -> bool:
        """Whether the median output has at least LONG_OUTPUT_TOKENS tokens."""
        if isinstance(self.lengths, Trace):
            return bool(np.median(self.lengths.output_tokens) >= LONG_OUTPUT_TOKENS)
        return self.lengths.output.median >= LONG_OUTPUT_TOKENS


def resolve(spec: str) -> Source:
    """The source a user named; a trace file is read here.

    UsageError for an unknown name or bad numbers, InputError for an unusable file.
    """
    if spec in PRESETS:
        return _from_preset(PRESETS[spec])
    kind, colon, rest = spec.partition(":")
    if kind == "trace" and rest:
        return _from_trace(Path(rest))
    if kind in _SYNTHETIC and colon:
        return _synthetic(spec, kind, rest)
    if Path(spec).suffix in {".csv", ".json", ".jsonl", ".gz"}:
        raise UsageError(f"unknown workload '{spec}'; to read a file write trace:{spec}")
    raise unknown_name("workload", spec, [*PRESETS, *FORMS])


def _from_preset(preset: Preset) -> Source:
    return Source(
        name=preset.name,
        citation=preset.citation,
        lengths=preset.lengths,
        default_slo=preset.default_slo,
        is_approximated=preset.is_approximated,
    )


def _from_trace(path: Path) -> Source:
    """Named by the file alone, so that results do not depend on where it lies."""
    trace = read_trace(path)
    facts = [trace.format, f"{trace.num_rows} rows", f"sha256 {trace.sha256[:12]}"]
    if trace.is_approximated:
        facts.append(ESTIMATE)
    citation = f"{path.name} ({', '.join(facts)})"
    return Source(f"trace:{path.name}", citation, trace, is_approximated=trace.is_approximated)


def _synthetic(spec: str, kind: str, text: str) -> Source:
    """A source from the numbers after `kind:`; UsageError says how they are written."""
    make, per_length, form = _SYNTHETIC[kind]
    length = "-".join([r"(\d{1,8})"] * per_length)
    match = re.fullmatch(f"{length}/{length}", text, re.ASCII)
    if match is None:
        raise UsageError(f"workload '{spec}' is not understood; write {form} in whole tokens")
    numbers = [int(number) for number in match.groups()]
    prompt, output = numbers[:per_length], numbers[per_length:]
    if min(numbers) < 1 or prompt != sorted(prompt) or output != sorted(output):
        raise UsageError(
            f"workload '{spec}' makes no sense: every length must be 1 or more, and a range must"
            " not end below its beginning"
        )
    return Source(spec, f"synthetic: {spec}", Marginals(make(*prompt), make(*output)))


# Distribution, numbers per length, how it is written.
_SYNTHETIC: dict[str, tuple[Callable[..., Distribution], int, str]] = {
    "fixed": (Fixed, 1, "fixed:IN/OUT"),
    "uniform": (Uniform, 2, "uniform:LO-HI/LO-HI"),
    "lognormal": (LogNormal, 2, "lognormal:P50-P95/P50-P95"),
}
