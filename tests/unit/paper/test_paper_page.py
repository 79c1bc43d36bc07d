"""A small page made for real, and the one that is committed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest

from apexbench.paper.evidence import Evidence
from apexbench.paper.freeze import Freeze, digest, examine
from apexbench.paper.page import Page
from apexbench.paper.plan import Plan, load
from apexbench.paper.studies import Study, in_turn, prepare
from apexbench.paper.wording import headline
from apexbench.reports.wording import delta, number

SMALL = Path(__file__).parent / "small.toml"
DOCS = Path(__file__).parents[3] / "docs"
SECTIONS = [
    "In short", "Set-up", "Claims", "Which mechanism reproduces the headline",
    "Gain against GPU KV tokens", "Latency under load", "What profiling buys", "Limits", "Runs",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """A page with what it was made from."""

    plan: Plan
    studies: tuple[Study, ...]
    evidence: Evidence

    def text(self, freeze: Freeze | None = None) -> str:
        return Page(
            self.plan, self.studies, self.evidence, freeze or examine(self.plan), "paper.md"
        ).text()


def make() -> Made:
    plan = load(SMALL)
    studies = prepare(plan, "1")
    results = {s.spec.id: s.run(lambda _: lambda _: None) for _, s in in_turn(studies)}
    return Made(plan, studies, Evidence(results))


@pytest.fixture(name="made", scope="module")
def _made() -> Made:
    return make()


def rows(text: str, section: str) -> Iterator[list[str]]:
    """Cells of the body rows of a section's tables."""
    body = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    for line in body.splitlines():
        if line.startswith("|") and "---" not in line:
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_section_is_there_in_order(made: Made) -> None:
    assert re.findall(r"^## (.*)$", made.text(), re.MULTILINE) == SECTIONS


def test_equal_configs_give_equal_bytes(made: Made) -> None:
    assert make().text() == made.text()


def test_every_case_of_every_claim_has_its_row(made: Made) -> None:
    _, *body = rows(made.text(), "Claims")
    assert [(row[2], row[4]) for row in body] == [
        ("l4 fixed:300/40", "outside"),
        ("l4 chat", "exploratory"),
        ("l4 fixed:300/40 with 1000 GPU KV tokens", "outside"),
        ("l4 fixed:300/40 at 0.8x", "inside"),
    ]


def test_numbers_come_from_the_runs(made: Made) -> None:
    result = made.evidence.results["kv:1000"]
    speeds = {run.variant: run.metrics.output_throughput_tok_s for run in result.runs}
    head, *body = rows(made.text(), "Gain against GPU KV tokens")
    first = dict(zip(head, body[0], strict=True))
    assert first["GPU KV tokens"] == "992"
    assert first["gpu-only tok/s"] == number(speeds["gpu-only"])
    for name in ("apex", "static:deferred"):
        assert first[name] == delta(speeds[name] / speeds["gpu-only"])
    claimed = list(rows(made.text(), "Claims"))[3]
    assert claimed[3] == first["apex"]
    assert made.text().count(first["apex"]) >= 3  # claims, table, chart


def test_the_band_is_that_of_the_draws(made: Made) -> None:
    runs = {run.variant: run for run in made.evidence.results["one"].runs}
    draws = runs["apex"].draws
    assert draws is not None
    assert draws.n == 3
    assert "80\u202f% band over 3 draws" in made.text()
    found = made.evidence.gain("one", "apex")
    assert found is not None
    assert found.value == draws.ratio_median


def test_the_short_answer_agrees_with_the_verdicts(made: Made) -> None:
    short = made.text().partition("## In short")[2].partition("\n## ")[0]
    _, *body = rows(made.text(), "Claims")
    hits = sum(row[4] == "inside" for row in body[:3])
    assert hits == 0
    assert "Of 2 claims, 1 hold here, 1 do not" in short
    assert "Literal apex does not." in short


def test_the_answer_counts_workloads() -> None:
    assert headline("x", "1", "apex", 0, 2).endswith("Literal apex does not.")
    assert headline("x", "1", "apex", 1, 2).endswith("Literal apex does on 1 of 2 workloads.")
    assert headline("x", "1", "apex", 2, 2).endswith("Literal apex does.")
    assert "could not be tested" in headline("x", "1", "apex", 0, 0)


def test_every_run_is_listed_with_its_command(made: Made) -> None:
    _, *body = rows(made.text(), "Runs")
    assert [row[0] for row in body] == [run.id for run in made.plan.all_runs]
    assert all(row[-1].startswith("`apexbench compare --gpu l4") for row in body)


def test_a_change_of_frozen_files_is_said(made: Made) -> None:
    text = made.text(Freeze("a" * 40, "2026-01-02", 3, {"engine/models.py": None}))
    assert f"in commit {'a' * 12} of 2026-01-02." in text
    assert "Changed since: `engine/models.py` has another hash now." in text
    untouched = made.text(Freeze(None, None, 3, {}))
    assert "not committed" in untouched
    assert "None of the frozen files has changed since." in untouched


def test_our_own_policies_stand_apart(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "paper.toml"
    text = SMALL.read_text().replace("requests = 50", 'requests = 50\nours = ["static:in_layer"]')
    path.write_text(text)
    plan = load(path)
    own = {s.spec.id: s for s in prepare(plan, "1")}["one:ours"]
    results = {"one": made.evidence.results["one"], own.spec.id: own.run(lambda _: lambda _: None)}
    small = replace(plan, own_runs={"one": own.spec}, runs=plan.runs[:1])
    page = Page(small, (own,), Evidence(results), examine(small), "paper.md")
    (row,) = list(rows("\n".join(page._ours()), "Ours"))[1:]
    speeds = {run.variant: run for result in results.values() for run in result.runs}
    best = speeds[row[3]].metrics.output_throughput_tok_s
    ours = speeds["static:in_layer"].metrics.output_throughput_tok_s
    assert row[1] == "static:in_layer"
    assert row[4] == delta(ours / best)


# --- the committed page ---------------------------------------------------------------------------


@pytest.fixture(name="committed", scope="module")
def _committed() -> tuple[Plan, str]:
    return load(DOCS / "paper.toml"), (DOCS / "paper.md").read_text()


def test_everything_that_could_be_bent_is_frozen(committed: tuple[Plan, str]) -> None:
    plan, _ = committed
    profiles = {
        f"engine/profiles/{p.name}" for p in (DOCS.parent / "engine/profiles").glob("*.toml")
    }
    others = {"engine/capacity.py", "engine/models.py", "workloads/presets.py"}
    assert set(plan.file.frozen) == profiles | others


def test_the_page_admits_every_frozen_file_that_changed(committed: tuple[Plan, str]) -> None:
    plan, text = committed
    changed = {name for name, frozen in plan.file.frozen.items() if digest(name) != frozen}
    line = next((line for line in text.splitlines() if line.startswith("- Changed since: ")), "")
    assert changed == set(re.findall(r"`([^`]+)`", line))


def test_the_page_is_that_of_the_committed_config(committed: tuple[Plan, str]) -> None:
    plan, text = committed
    assert f"SHA-256 `{sha256(plan.path.read_bytes()).hexdigest()}`" in text
    assert re.search(r"in commit [0-9a-f]{12} of \d{4}-\d\d-\d\d\.", text)


def test_every_claim_and_every_run_is_on_the_page(committed: tuple[Plan, str]) -> None:
    plan, text = committed
    claimed = {(row[0], row[1]) for row in rows(text, "Claims") if row[0]}
    expected = {(claim.text, f"{claim.value} [{claim.mark}]") for claim in plan.file.claims}
    assert claimed - {("claim", "paper")} == expected
    assert {row[0] for row in rows(text, "Runs")} >= {run.id for run in plan.all_runs}


def test_no_verdict_on_assumed_lengths(committed: tuple[Plan, str]) -> None:
    _, text = committed
    for row in rows(text, "Claims"):
        if "livebench" in row[2] or "dolphin-r1" in row[2]:
            assert row[4] in ("exploratory", "not testable")
