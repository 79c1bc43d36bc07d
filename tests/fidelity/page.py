"""The page of the comparison between emulated and simulated runs."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.fidelity.compare import (
    LEAST_EQUAL,
    MAX_THROUGHPUT_ERROR,
    MAX_TPOT_ERROR,
    Compared,
    Error,
)
from tests.fidelity.terms import Line, Terms

_NS_PER_US = 1000

_HEAD = f"""# Does the simulator tell the truth?

Made by `make fidelity` on the machine described below, in about a quarter of an hour. Each workload
runs under every policy on `--backend emulated --gpu t4`: real threads, queues and KV memory, real
CPU attention by the C kernels; operations of the GPU and copies take as long as a T4's would by its
profile. The same is then put to the simulator. This validates the overlap of the lanes and the CPU
lane. It does not validate the model of the GPU, which is the same on both sides.

- **Replayed**: the recorded step plans on the simulator's lanes, with the host's work as it was
  measured: CPU attention job by job, from q, k and v at hand to the worker's stamp at the end, and
  scheduling step by step. What is left is how work overlaps. Bounds: {MAX_THROUGHPUT_ERROR:.0%} in
  throughput, {MAX_TPOT_ERROR:.0%} in the median request's TPOT.
- **Choices**: the policy is asked again what it was asked, and told the replayed times. Bound:
  {LEAST_EQUAL:.0%} the same strategy. In brackets: told what this host's profile with the terms
  says.
- **Free**: the simulator's own run with the profile of this host (`apexbench profile`), without and
  with three terms: a step's Python on the host, the way from copy to worker, and how much longer
  attention takes beside busy lanes. They are taken from the runs marked *seen* alone.
- **Read limit**: what one core reads from memory before and after the run, GB/s. The profile was
  measured at another time; where the limit wanders, free runs miss by as much.

Errors are simulated over emulated, less one: throughput / TPOT. *busy*: something else used the
machine meanwhile, so the row says little.
"""


def page(
    found: Sequence[Compared], terms: Terms, profile_gbps: float, about: Mapping[str, str]
) -> str:
    """The committed page."""
    parts = [_HEAD, *[f"- {name}: {value}" for name, value in about.items()], ""]
    parts += [*_terms(terms), "", *_table(found, profile_gbps), "", *_summary(found), ""]
    return "\n".join(parts)


def _terms(terms: Terms) -> list[str]:
    return [
        "## Terms",
        "",
        f"- A step on the host, all of it: {_line(terms.eager)}; decode steps of gpu_only"
        f" {_line(terms.captured)}.",
        f"- From q, k and v at hand to the job with the workers:"
        f" {terms.dispatch_ns / _NS_PER_US:.0f} us.",
        f"- Attention beside busy lanes takes {terms.contention:.2f} times what the profile says.",
    ]


def _line(line: Line) -> str:
    return f"{line.base_us:.0f} us + {line.layer_us:.1f} us per layer"


def _table(found: Sequence[Compared], profile_gbps: float) -> list[str]:
    lines = [
        "## Runs",
        "",
        f"Read limit in the profile: {profile_gbps:.1f} GB/s.",
        "",
        "| workload | policy | tok/s | TPOT | replayed | choices | free | with terms |"
        " read limit | lateness p99 | |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_row(one) for one in found]


def _row(one: Compared) -> str:
    run, outcome = one.recorded, one.recorded.outcome
    before, after = run.limits_gbps
    seen = " (seen)" if run.case.is_seen else ""
    marks = [] if one.is_kept else ["**missed**"]
    marks += [f"{run.failed} requests failed"] if run.failed else []
    marks += ["busy"] if run.disturbance else []
    choices = (
        f"{one.choices.share:.1%} of {one.choices.num_choices} ({one.told_modelled.share:.0%})"
    )
    return (
        f"| {run.case.name}{seen} | {run.policy} | {outcome.tokens_per_s:.1f} |"
        f" {outcome.tpot_s * 1000:.1f} ms | {_error(one.replayed)} | {choices} |"
        f" {_error(one.free)} | {_error(one.free_with_terms)} | {before:.1f}, {after:.1f} |"
        f" {run.lateness.p99_ns / _NS_PER_US:.0f} us | {', '.join(marks)} |"
    )


def _error(error: Error) -> str:
    return f"{error.throughput:+.1%} / {error.tpot:+.1%}"


def _summary(found: Sequence[Compared]) -> list[str]:
    lines = ["## Summary", ""]
    for name, is_seen in (("Seen", True), ("Unseen", False)):
        runs = [one for one in found if one.recorded.case.is_seen == is_seen]
        if runs:
            lines.append(f"- {name} workloads, {len(runs)} runs: {_errors_of(runs)}")
    kept = sum(one.is_kept for one in found)
    busy = sum(one.recorded.disturbance is not None for one in found)
    lines.append(f"- Within their bounds: {kept} of {len(found)} runs; {busy} while it was busy.")
    return lines


def _errors_of(runs: Sequence[Compared]) -> str:
    return (
        f"replayed {_spread([one.replayed.throughput for one in runs])} in throughput,"
        f" {_spread([one.replayed.tpot for one in runs])} in TPOT;"
        f" choices {min(one.choices.share for one in runs):.1%} at least;"
        f" free {_spread([one.free.throughput for one in runs])},"
        f" with terms {_spread([one.free_with_terms.throughput for one in runs])}."
    )


def _spread(errors: Sequence[float]) -> str:
    sizes = [abs(error) for error in errors]
    return f"{median(sizes):.1%} (at most {max(sizes):.1%})"
