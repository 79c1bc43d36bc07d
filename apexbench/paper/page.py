"""The page as Markdown, section by section, from judged claims and results. Runs nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apexbench
from apexbench.compare.variants import BASELINE
from apexbench.engine.deployment import Deployment
from apexbench.engine.hardware import load_host
from apexbench.paper import tables, wording
from apexbench.paper.claims import (
    DEFERRED,
    LITERAL,
    TWO_BATCH,
    Judge,
    Row,
    judge_all,
    overall,
    place,
)
from apexbench.paper.evidence import Estimate, Evidence
from apexbench.paper.freeze import Freeze
from apexbench.paper.plan import Plan, RunSpec, Sweep
from apexbench.paper.schema import Claim
from apexbench.paper.studies import Study
from apexbench.paper.tables import Table
from apexbench.paper.wording import INSIDE, NOT_TESTABLE, OUTSIDE

COMMAND = "apexbench paper --config {config} --out {out}"


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Everything the page is written from; `out` is named in it as given."""

    plan: Plan
    studies: tuple[Study, ...]
    evidence: Evidence
    freeze: Freeze
    out: str

    def text(self) -> str:
        """The whole page, ending in a line break. Equal plans and results give equal bytes."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        judged = judge_all(self.plan, self._judge())
        yield f"# {self.plan.file.title}"
        yield from _paragraph(wording.PREFACE)
        yield from self._origin()
        yield from _section("In short", *self._in_short(judged))
        yield from self._set_up()
        yield from self._claims(judged)
        yield from self._mechanisms()
        yield from self._capacity()
        yield from self._load()
        yield from self._beliefs()
        yield from self._ours()
        yield from _section("Limits", *(f"- {limit}" for limit in wording.LIMITS))
        yield from self._made()

    def _judge(self) -> Judge:
        deployments: dict[str, Deployment] = {}
        for study in self.studies:
            deployments.setdefault(study.spec.gpu, study.deployment)
        return Judge(self.evidence, deployments)

    def _origin(self) -> Iterator[str]:
        command = COMMAND.format(config=self.plan.path, out=self.out)
        yield ""
        yield f"- Command: `{command}`, apexbench {apexbench.__version__}"
        yield f"- Config: SHA-256 `{self.plan.sha256}`"
        freeze = self.freeze
        yield f"- Frozen files: {wording.frozen(freeze.num_files, freeze.commit, freeze.date)}"
        yield f"- {wording.changed(sorted(freeze.changed))}"

    def _in_short(self, judged: Sequence[Sequence[Row]]) -> Iterator[str]:
        found = [overall(rows) for rows in judged]
        numbers = [found.count(verdict) for verdict in (INSIDE, OUTSIDE, "", NOT_TESTABLE)]
        yield f"- {wording.tally(*numbers)}"
        if self._headline is not None:
            yield f"- {self._answer(self._headline)}"
        yield from (f"- {sentence}" for sentence in self._profiling())

    @property
    def _headline(self) -> Claim | None:
        """The first gain over gpu-only that the config claims of the literal rule."""
        for claim in self.plan.file.claims:
            if (claim.test, claim.candidate, claim.baseline) == ("gain", LITERAL, BASELINE):
                return claim
        return None

    def _places(self, claim: Claim, policy: str) -> Iterator[tuple[str, Estimate, str]]:
        """Measured workloads of the claim: case, gain, and inside, below or above."""
        for name in claim.runs:
            runs_it = policy in self.evidence.variants(name)
            gain = self.evidence.gain(name, policy) if runs_it else None
            if gain is not None and self.evidence.is_measured(name):
                yield self.evidence.case(name), gain, place(claim, gain)

    def _answer(self, claim: Claim) -> str:
        """Whether the literal rule gives the headline, and where the fixed strategies stand."""
        literal = list(self._places(claim, LITERAL))
        hits = sum(place == INSIDE for _, _, place in literal)
        answer = wording.headline(claim.text, claim.value, LITERAL, hits, len(literal))
        stands = [
            wording.mechanism(policy, list(self._places(claim, policy)))
            for policy in (LITERAL, DEFERRED, TWO_BATCH)
        ]
        return f"{answer} {'; '.join(stands)}."

    def _profiling(self) -> Iterator[str]:
        """Against the best of the fixed strategies that the run has."""
        for run, wrong in tables.believing(self._backlogs, self.evidence):
            ran = self.evidence.variants(run.id)
            fixed = [name for name in (DEFERRED, TWO_BATCH) if name in ran]
            best = tables.best_of(self.evidence, run.id, fixed or [BASELINE])
            yield wording.profiling(
                self.evidence.case(run.id),
                load_host(wrong.removeprefix(tables.WRONG_BELIEF)).name,
                self.evidence.gain(run.id, LITERAL, wrong),
                best,
                self.evidence.gain(run.id, LITERAL, best),
            )

    @property
    def _backlogs(self) -> tuple[RunSpec, ...]:
        return tuple(run for run in self.plan.runs if run.has_backlog)

    def _set_up(self) -> Iterator[str]:
        yield from _section("Set-up", wording.SETTING_UP)
        yield from _table(tables.hardware(self.studies, self.evidence))
        yield from _paragraph(wording.MEMORY)
        yield from _paragraph(wording.LENGTHS)
        papers = self.plan.file.papers
        yield from ("", *(f"- {name}: {citation}" for name, citation in papers.items()))

    def _claims(self, judged: Sequence[Sequence[Row]]) -> Iterator[str]:
        marks = ", ".join(f"{mark}: {words}" for mark, words in self.plan.file.marks.items())
        yield from _section("Claims", f"Marks: {marks}.")
        yield from _table(tables.claims(judged))
        yield from _folded("How each claim was read", tables.readings(judged))

    def _mechanisms(self) -> Iterator[str]:
        yield from _section("Which mechanism reproduces the headline")
        yield from _table(tables.mechanisms(self._backlogs, self.evidence))

    def _capacity(self) -> Iterator[str]:
        if not self.plan.sweeps:
            return
        yield from _section("Gain against GPU KV tokens", wording.CAPACITY)
        for sweep in self.plan.sweeps:
            yield from self._swept(sweep)

    def _swept(self, sweep: Sweep) -> Iterator[str]:
        yield from ("", f"### {sweep.id}")
        yield from _table(tables.capacity(sweep, self.evidence))
        yield from ("", "```text", *tables.chart(sweep, self.evidence), "```")

    def _load(self) -> Iterator[str]:
        table = tables.load(self.plan.runs, self.evidence)
        if table.rows:
            yield from _section("Latency under load", wording.LOAD)
            yield from _table(table)

    def _beliefs(self) -> Iterator[str]:
        table = tables.beliefs(self._backlogs, self.evidence)
        if table.rows:
            yield from _section("What profiling buys", wording.BELIEFS)
            yield from _table(table)

    def _ours(self) -> Iterator[str]:
        table = tables.ours(self.plan, self.evidence)
        if table.rows:
            yield from _section("Ours", wording.OURS)
            yield from _table(table)

    def _made(self) -> Iterator[str]:
        yield from _section("Runs")
        yield from _table(tables.made(self.plan, self.evidence))
        warnings = [
            f"{name}: {warning}"
            for name, result in self.evidence.results.items()
            for warning in result.warnings
        ]
        yield from _folded("What the runs warn of", warnings)


def _section(title: str, *lines: str) -> Iterator[str]:
    yield from ("", f"## {title}")
    if lines:
        yield from ("", *lines)


def _paragraph(text: str) -> Iterator[str]:
    yield from ("", text)


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"<details><summary>{title}</summary>", "")
        yield from (f"- {line}" for line in lines)
        yield from ("", "</details>")


def _table(table: Table) -> Iterator[str]:
    yield from ("", _row(table.head), _row("---" for _ in table.head))
    yield from map(_row, table.rows)
    basis = wording.basis(table.estimates)
    if basis:
        yield from ("", basis)


def _row(cells: "Iterator[str] | Sequence[str]") -> str:
    """A bar in a cell would end it."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
