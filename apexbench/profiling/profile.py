"""A measured host: its constants, its CPU kernels' curves, and the files that say so."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from apexbench.engine.executors.profiling.measurements import AttentionPoint, HostMeasurements
from apexbench.engine.hardware import HostProfile
from apexbench.engine.profile_files import Constant
from apexbench.profiling.constants import US_PER_S, host_constants, in_words
from apexbench.profiling.fitting import Errors, FittedCurve, errors_of, fit, interpolated
from apexbench.profiling.toml_text import Table, constant_table, render

SCHEMA_VERSION = 1
GB = 1e9
TOOL = "apexbench profile"


@dataclass(frozen=True, slots=True)
class ModelErrors:
    """Of one model, over the jobs it was fitted to and over others, where there are any."""

    seen: Errors | None
    held_out: Errors | None


@dataclass(frozen=True, slots=True)
class CurveOfHost:
    """One fitted curve with what it is of, and how far it and its alternative are off."""

    dtype: str
    gqa_group: int
    threads: int
    gb_per_s: Constant
    row_us: Constant
    dispatch_us: Constant
    tokens: tuple[int, ...]
    factors: tuple[float, ...]
    line: ModelErrors
    interpolated: ModelErrors

    @property
    def is_corrected(self) -> bool:
        """Whether it is more than a straight line."""
        return any(factor != 1 for factor in self.factors)

    @property
    def errors(self) -> ModelErrors:
        """Of the model that was chosen."""
        return self.interpolated if self.is_corrected else self.line


@dataclass(frozen=True, slots=True)
class ProfiledHost:
    """Everything there is to write about a measured host."""

    name: str
    created_at: str
    version: str
    measured: HostMeasurements
    base: str
    constants: Mapping[str, Constant]
    curves: tuple[CurveOfHost, ...]

    @property
    def title(self) -> str:
        """What `list` would show."""
        cores, memory = self.measured.cores, self.constants["memory_gib"].value
        cpu = self.measured.circumstances["cpu"]
        return f"{cpu}, {cores} cores, {memory:g} GiB, measured {self.created_at[:10]}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know, a sentence each without a full stop."""
        return tuple(in_words(self.measured))


def profiled(
    name: str, measured: HostMeasurements, base: HostProfile, *, created_at: str, version: str
) -> ProfiledHost:
    """Fit everything. InputError where the measurements do not determine a rate."""
    return ProfiledHost(
        name=name,
        created_at=created_at,
        version=version,
        measured=measured,
        base=base.name,
        constants=host_constants(measured, base),
        curves=tuple(_curves(measured)),
    )


def to_toml(host: ProfiledHost) -> str:
    """The profile as `--host FILE` reads it."""
    heading = (
        f"Measured by {TOOL} {host.version} on {host.created_at[:10]}; docs/profile.md says how.",
        "Use it: apexbench compare --host THIS_FILE --gpu t4",
        *(f"Mind: {warning}." for warning in host.warnings),
    )
    top = {"role": "host", "name": host.name, "title": host.title}
    sections: list[tuple[str, Table]] = [("", top), ("constants", host.constants)]
    sections += [("[attention]", _curve_table(curve)) for curve in host.curves]
    sections.append(("circumstances", _circumstances(host)))
    sections += _measurement_sections(host.measured)
    return render(sections, heading)


def to_json(host: ProfiledHost) -> str:
    """The same with every point that was measured; units live in the names."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "kind": "host_profile",
        "name": host.name,
        "title": host.title,
        "warnings": host.warnings,
        "base_host": host.base,
        "circumstances": _circumstances(host),
        "constants": {key: constant_table(value) for key, value in host.constants.items()},
        "attention": [asdict(curve) for curve in host.curves],
        "measurements": {key: value for key, value in asdict(host.measured).items() if key in _RAW},
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


_RAW = (
    *("reads", "attention", "copies", "handovers", "waits", "steps"),
    *("lane_step_s", "lane_in_layer_s", "wall_s", "missing"),
)


def _curves(measured: HostMeasurements) -> Iterator[CurveOfHost]:
    for key in dict.fromkeys(_key(point) for point in measured.attention):
        points = [point for point in measured.attention if _key(point) == key]
        seen = [point for point in points if not point.is_held_out]
        if seen:
            held_out = [point for point in points if point.is_held_out]
            yield _curve(measured, key, seen, held_out)


def _key(point: AttentionPoint) -> tuple[str, int, int]:
    return point.dtype, point.gqa_group, point.threads


def _curve(
    measured: HostMeasurements,
    key: tuple[str, int, int],
    seen: Sequence[AttentionPoint],
    held_out: Sequence[AttentionPoint],
) -> CurveOfHost:
    dtype, group, threads = key
    fitted, other = fit(seen), interpolated(seen)
    gb_per_s, row_us, dispatch_us = _curve_constants(measured, seen, fitted)
    return CurveOfHost(
        dtype=dtype,
        gqa_group=group,
        threads=threads,
        gb_per_s=gb_per_s,
        row_us=row_us,
        dispatch_us=dispatch_us,
        tokens=fitted.tokens,
        factors=tuple(round(factor, 4) for factor in fitted.factors),
        line=ModelErrors(errors_of(fitted.line, seen), errors_of(fitted.line, held_out)),
        interpolated=ModelErrors(errors_of(other, seen), errors_of(other, held_out)),
    )


def _curve_constants(
    measured: HostMeasurements, seen: Sequence[AttentionPoint], fitted: FittedCurve
) -> tuple[Constant, Constant, Constant]:
    """Rate, time per row and dispatch; the last includes what a call from Python adds, and what
    handing rows from lane to lane takes.
    """
    point = seen[0]
    what = f"fit of {len(seen)} jobs, {point.num_q_heads}/{point.num_kv_heads} heads of 128"
    python_s = _python_s(measured, point.threads)
    lanes_s = measured.lane_in_layer_s
    dispatch_s = fitted.dispatch_s + python_s + lanes_s
    added = (
        f"{what}, and {python_s * US_PER_S:.1f} us of calling it from Python and"
        f" {lanes_s * US_PER_S:.0f} us of handing rows from lane to lane and back"
    )

    def constant(value: float, unit: str, sigma: float, source: str) -> Constant:
        return Constant(float(f"{value:.4g}"), unit, source, "measured", round(sigma, 3))

    return (
        constant(fitted.line.bytes_per_s / GB, "GB/s", fitted.rate_sigma, what),
        constant(fitted.line.row_s * US_PER_S, "us", fitted.row_sigma, what),
        constant(dispatch_s * US_PER_S, "us", fitted.dispatch_sigma, added),
    )


def _python_s(measured: HostMeasurements, threads: int) -> float:
    """What submitting and joining takes longer from Python than from C, workers awake."""
    found = {
        handover.caller: handover.timing.seconds
        for handover in measured.handovers
        if handover.threads == threads and handover.workers == "spinning"
    }
    return max(0.0, found["Python"] - found["C"]) if {"Python", "C"} <= found.keys() else 0.0


def _curve_table(curve: CurveOfHost) -> Table:
    return {
        "dtype": curve.dtype,
        "gqa_group": curve.gqa_group,
        "threads": curve.threads,
        "gb_per_s": curve.gb_per_s,
        "row_us": curve.row_us,
        "dispatch_us": curve.dispatch_us,
        "tokens": curve.tokens,
        "factors": curve.factors,
        "fit": {
            "model": "interpolated" if curve.is_corrected else "line",
            "line": _model_table(curve.line),
            "interpolated": _model_table(curve.interpolated),
        },
    }


def _model_table(errors: ModelErrors) -> Table:
    return {"seen": _error_table(errors.seen), "held_out": _error_table(errors.held_out)}


def _error_table(errors: Errors | None) -> Table | None:
    if errors is None:
        return None
    return {
        "median": round(errors.median, 4),
        "largest": round(errors.largest, 4),
        "jobs": errors.n,
    }


def _circumstances(host: ProfiledHost) -> dict[str, Any]:
    """Of the run; what the system does not tell is None."""
    measured = host.measured
    versions = measured.circumstances["versions"] | {"apexbench": host.version}
    quiet = {"quiet_before": measured.quiet_before, "quiet_during": measured.quiet_during}
    return {
        "tool": TOOL,
        "date": host.created_at,
        "scope": measured.scope,
        "base_host": host.base,
        "quiet": measured.quiet_before.is_quiet and measured.quiet_during.is_quiet,
        "warnings": list(host.warnings),
        **{key: asdict(found) for key, found in quiet.items()},
        **measured.circumstances,
        "versions": versions,
        "threads": list(measured.threads),
    }


def _measurement_sections(measured: HostMeasurements) -> Iterator[tuple[str, Table]]:
    """Beside the constants: what executors on this host meet; for people and other tools."""
    lists: Mapping[str, Sequence[Any]] = {
        "read_limits": measured.reads,
        "copies": measured.copies,
        "handovers": measured.handovers,
        "waits": measured.waits,
        "steps": measured.steps,
    }
    for name, entries in lists.items():
        for entry in entries:
            yield f"[measurements.{name}]", _rounded(asdict(entry))


def _rounded(table: Mapping[str, Any]) -> dict[str, Any]:
    """Floats to four significant digits, in inner tables too."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, float):
            found[key] = float(f"{value:.4g}")
        else:
            found[key] = _rounded(value) if isinstance(value, Mapping) else value
    return found
