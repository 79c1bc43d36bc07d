"""`apexbench doctor --policy`: the suite that every policy must pass, run on one policy."""

import json
from dataclasses import asdict, dataclass

import typer

from apexbench.cli.exits import ExitCode
from apexbench.engine.contract.suite import Breach, breaches
from apexbench.engine.policies.registry import find_policy

NUM_SEEDS = 50  # some seconds; broken laws mostly show within the first ten


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of it: the laws that held, and the one that did not."""

    policy: str
    seeds: tuple[int, ...]
    kept: tuple[str, ...]
    broken: Breach | None

    @property
    def verdict(self) -> str:
        """One sentence, with the command that repeats a breach."""
        if self.broken is None:
            tried = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else f"seed {self.seeds[0]}"
            return f"PASS: {self.policy} keeps all {len(self.kept)} laws ({tried} each)"
        again = f"apexbench doctor --policy {self.policy} --seed {self.broken.seed}"
        return f"FAIL: {self.broken.sentence}; to see it again: {again}"


def examine(name: str, seed: int | None, *, as_json: bool) -> int:
    """Print one line per law and the verdict; the exit code. Only `seed` if one is given."""
    entry = find_policy(name)
    seeds = range(NUM_SEEDS) if seed is None else range(seed, seed + 1)
    kept: list[str] = []
    broken: Breach | None = None
    for law, broken in breaches(entry, seeds):
        if broken is None:
            kept.append(law.name)
        if not as_json:
            typer.echo(f"{'ok' if broken is None else 'broken':6}  {law.name}")
    found = Examination(entry.name, tuple(seeds), tuple(kept), broken)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        typer.echo(found.verdict)
    return ExitCode.OK if broken is None else ExitCode.GATE_FAILED
