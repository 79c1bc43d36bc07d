"""What the page is made from: claims, runs and frozen hashes of one TOML file. Runs nothing.

Sizes of a run (seeds, requests, draws) may be changed between two versions of the page; the rest
is meant to stand before the first run against the claims.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from apexbench.errors import InputError
from apexbench.paper.schema import (
    KERNEL_RUNS,
    ON_GPUS,
    ON_RUNS,
    Claim,
    Defaults,
    PlanFile,
    RunTable,
    SweepTable,
)


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One comparison to make, every choice resolved; `gpu_kv_tokens` None: from memory."""

    id: str
    gpu: str
    host: str
    model: str
    workload: str
    cpu_kernel: str
    policies: tuple[str, ...]
    rates: tuple[str, ...]
    seeds: int
    seed: int
    requests: int
    draws: int
    gpu_kv_tokens: int | None = None

    @property
    def has_backlog(self) -> bool:
        """Whether it measures saturation."""
        return "inf" in self.rates


@dataclass(frozen=True, slots=True)
class Sweep:
    """The runs of one sweep in the order of their GPU KV tokens."""

    id: str
    runs: tuple[RunSpec, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid file with its path, its bytes as they were read and its runs spelt out."""

    path: Path
    data: bytes
    file: PlanFile
    runs: tuple[RunSpec, ...]
    sweeps: tuple[Sweep, ...]
    own_runs: Mapping[str, RunSpec]  # by run: the same with our policies alone, without draws

    @property
    def sha256(self) -> str:
        """Of the bytes that were read."""
        return sha256(self.data).hexdigest()

    @property
    def all_runs(self) -> tuple[RunSpec, ...]:
        """Those of the papers' policies, of the sweeps, and of our own policies."""
        return (*self.cited_runs, *self.own_runs.values())

    @property
    def cited_runs(self) -> tuple[RunSpec, ...]:
        """What claims may refer to: the runs, then those of the sweeps."""
        return (*self.runs, *(run for sweep in self.sweeps for run in sweep.runs))

    @property
    def ours(self) -> tuple[str, ...]:
        """Policies that no paper describes."""
        return self.file.defaults.ours


def load(path: Path) -> Plan:
    """Read and check the file; InputError says in one sentence what is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read paper config '{path}': {error.strerror}") from error
    file = _validate(path, parse(data, str(path)))
    runs = tuple(_run(file.defaults, table) for table in file.runs)
    sweeps = tuple(_sweep(file.defaults, table) for table in file.sweeps)
    plan = Plan(path, data, file, runs, sweeps, _own(file.defaults.ours, runs))
    for problem in _problems(plan):
        raise InputError(f"paper config '{path}': {problem}")
    return plan


def parse(data: bytes, name: str) -> dict[str, Any]:
    """TOML of UTF-8 bytes; InputError otherwise. `name` is used in the error sentence."""
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"paper config '{name}' is not valid TOML: {error}") from error


def _validate(path: Path, document: dict[str, Any]) -> PlanFile:
    try:
        return PlanFile.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"paper config '{path}' is not valid: {where}: {first['msg']}") from error


def _own(ours: tuple[str, ...], runs: tuple[RunSpec, ...]) -> dict[str, RunSpec]:
    """Apart from the others, so that no claim's requests or draws depend on our policies."""
    return {
        run.id: replace(run, id=f"{run.id}:ours", policies=ours, rates=("inf",), draws=0)
        for run in runs
        if run.has_backlog and ours
    }


def _run(defaults: Defaults, table: RunTable) -> RunSpec:
    return _spec(defaults, table, table.id, table.rates or defaults.rates, None)


def _sweep(defaults: Defaults, table: SweepTable) -> Sweep:
    runs = (
        _spec(defaults, table, f"{table.id}:{tokens}", ("inf",), tokens)
        for tokens in sorted(table.gpu_kv_tokens)
    )
    return Sweep(table.id, tuple(runs))


def _spec(
    defaults: Defaults,
    table: RunTable | SweepTable,
    run_id: str,
    rates: tuple[str, ...],
    gpu_kv_tokens: int | None,
) -> RunSpec:
    """A sweep has no draws unless it asks for them: every point would be drawn."""
    draws = 0 if gpu_kv_tokens is not None else defaults.draws
    ours = () if gpu_kv_tokens is None else defaults.ours
    return RunSpec(
        id=run_id,
        gpu=table.gpu,
        host=table.host,
        model=table.model,
        workload=table.workload,
        cpu_kernel=table.cpu_kernel,
        policies=(*(table.policies or defaults.policies), *ours),
        rates=rates,
        seeds=table.seeds or defaults.seeds,
        seed=defaults.seed,
        requests=table.requests or defaults.requests,
        draws=draws if table.draws is None else table.draws,
        gpu_kv_tokens=gpu_kv_tokens,
    )


def _problems(plan: Plan) -> Iterator[str]:
    """What types cannot say: ids are unique, and what claims refer to exists."""
    claims = plan.file.claims
    for kind, ids in (("run", [r.id for r in plan.all_runs]), ("claim", [c.id for c in claims])):
        yield from (f"two {kind}s are called '{i}'" for i, n in Counter(ids).items() if n > 1)
    runs = {run.id: run for run in plan.cited_runs}
    for claim in claims:
        yield from (f"claim '{claim.id}': {problem}" for problem in _claim_problems(claim, runs))
        if claim.paper not in plan.file.papers:
            yield f"claim '{claim.id}': there is no paper '{claim.paper}' in [papers]"
        if {claim.candidate, claim.baseline} & set(plan.ours):
            yield f"claim '{claim.id}': policies of 'ours' never enter a claim"


def _claim_problems(claim: Claim, runs: dict[str, RunSpec]) -> Iterator[str]:
    missing = claim.missing()
    if missing is not None:
        yield f"test '{claim.test}' needs the key '{missing}'"
    if claim.low is not None and claim.high is not None and claim.low > claim.high:
        yield f"low {claim.low:g} is above high {claim.high:g}"
    if claim.test == "kernel" and len(claim.runs) != KERNEL_RUNS:
        yield f"test 'kernel' needs {KERNEL_RUNS} runs"
    if claim.test in ON_GPUS:
        known = {run.gpu for run in runs.values()}
        yield from (f"no run is on GPU '{gpu}'" for gpu in claim.gpus if gpu not in known)
    for name in claim.runs:
        if name not in runs:
            yield f"there is no run '{name}'; runs are {', '.join(runs)}"
            continue
        yield from _unrun(claim, runs[name])


def _unrun(claim: Claim, run: RunSpec) -> Iterator[str]:
    """Policies and rates that the claim asks of a run which does not make them."""
    for policy in (claim.candidate, claim.baseline):
        if policy not in (None, "gpu-only", *run.policies):
            yield f"run '{run.id}' does not run policy '{policy}'"
    rates = claim.rates or (("inf",) if claim.test in ON_RUNS else ())
    for rate in rates:
        if rate not in run.rates:
            yield f"run '{run.id}' does not run rate '{rate}'"
