"""Tables of the page as rows of text; forms no Markdown and no verdict."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from apexbench.compare.variants import BASELINE
from apexbench.engine.capacity import GIB
from apexbench.engine.deployment import Deployment
from apexbench.paper import wording
from apexbench.paper.claims import DEFERRED, LATENCY, LITERAL, TWO_BATCH, Row
from apexbench.paper.evidence import BACKLOG, Estimate, Evidence, strategy_shares, unsteady
from apexbench.paper.plan import Plan, RunSpec, Sweep
from apexbench.paper.profiled import attention_rates
from apexbench.paper.studies import Study
from apexbench.reports.wording import MISSING, TIMES, count, number, percent, seconds
from apexbench.result import Run

MECHANISMS = (LITERAL, DEFERRED, TWO_BATCH)
WRONG_BELIEF = f"{LITERAL}+belief="
# Ratios shown for each run under load, with the words of their columns.
LOAD_METRICS = {
    LATENCY: "latency per token",
    "tpot_p50_s": "TPOT",
    "ttft_p50_s": "TTFT",
    "e2e_p50_s": "end to end",
}
Cell = str | Estimate | None
PLUS_MINUS = "\u00b1"
_BAR_CELLS = 40
_NAME_CELLS = 17


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head. `estimates` are those shown with brackets."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    estimates: tuple[Estimate, ...] = ()


def _table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    shown: Callable[[Estimate | None], str] = wording.gain,
) -> Table:
    """Estimates become text by `shown`; None is one that could not be made."""
    found = [tuple(row) for row in rows]
    texts = (tuple(cell if isinstance(cell, str) else shown(cell) for cell in row) for row in found)
    estimates = (cell for row in found for cell in row if isinstance(cell, Estimate))
    return Table(tuple(head), tuple(texts), tuple(estimates))


def claims(judged: Sequence[Sequence[Row]]) -> Table:
    """One line per case; what belongs to the claim stands in its first line."""
    rows = []
    for group in judged:
        for position, row in enumerate(group):
            claim = row.claim
            lead = (claim.text, f"{claim.value} [{claim.mark}]") if position == 0 else ("", "")
            rows.append((*lead, row.case, row.ours, row.verdict, row.why))
    estimates = (row.estimate for group in judged for row in group if row.estimate is not None)
    head = ("claim", "paper", "case", "ours", "verdict", "why")
    return Table(head, tuple(rows), tuple(estimates))


def readings(judged: Sequence[Sequence[Row]]) -> list[str]:
    """How the words of each claim were read."""
    firsts = (group[0].claim for group in judged)
    return [f"{claim.text}: {claim.read}." for claim in firsts]


def hardware(studies: Sequence[Study], evidence: Evidence) -> Table:
    """What was simulated, once per GPU, with KV capacities and attention rates."""
    rows: dict[tuple[str, ...], tuple[str, ...]] = {}
    for study in studies:
        if study.spec.gpu_kv_tokens is None and study.spec.has_backlog:
            deployed = (study.spec.gpu, study.spec.host, study.spec.model, study.spec.cpu_kernel)
            rows.setdefault(deployed, (*deployed, *_capacity(study, evidence)))
    head = ("GPU", "host", "model", "CPU kernel", "GPU KV tokens, gpu-only", "memory sigma",
            "with a hybrid", "host KV tokens", "GPU attention", "CPU attention")  # fmt: skip
    return Table(head, tuple(rows.values()))


def _capacity(study: Study, evidence: Evidence) -> tuple[str, ...]:
    run_id = study.spec.id
    alone = evidence.runs(run_id, BASELINE)[0].gpu_kv_tokens
    hybrids = [
        evidence.runs(run_id, name)[0] for name in evidence.variants(run_id) if name != BASELINE
    ]
    rates = attention_rates(study.deployment)
    return (
        count(alone),
        f"{PLUS_MINUS}{percent(_memory_sigma(study.deployment, alone))}",
        wording.span([run.gpu_kv_tokens for run in hybrids]),
        wording.span([run.cpu_kv_tokens for run in hybrids]),
        f"{number(rates.gpu_gb_per_s)} GB/s",
        f"{number(rates.cpu_gb_per_s)} GB/s",
    )


def _memory_sigma(deployment: Deployment, gpu_kv_tokens: int) -> float:
    """One sigma of usable memory over the memory of these KV tokens."""
    memory = deployment.gpu.memory_gib
    usable = memory.value * memory.sigma * deployment.gpu_memory_utilization * GIB
    return usable / (gpu_kv_tokens * deployment.model.kv_bytes_per_token(deployment.kv_dtype))


def mechanisms(runs: Sequence[RunSpec], evidence: Evidence) -> Table:
    """Gains of the literal rule and of the fixed strategies, and what the rule did."""
    rows = []
    for run in runs:
        strategies = strategy_shares(evidence.runs(run.id, LITERAL)[0])
        did = ", ".join(f"{name} {percent(part)}" for name, part in strategies)
        gains = (_gain(evidence, run.id, name) for name in MECHANISMS)
        rows.append((_case(evidence, run.id), *gains, did))
    return _table(("case", *MECHANISMS, f"steps of {LITERAL}"), rows)


def capacity(sweep: Sweep, evidence: Evidence) -> Table:
    """Gain over gpu-only against GPU KV tokens."""
    names = evidence.variants(sweep.runs[0].id)[1:]
    rows = []
    for run in sweep.runs:
        tokens = count(evidence.runs(run.id, BASELINE)[0].gpu_kv_tokens)
        speed = number(evidence.throughput(run.id, BASELINE))
        rows.append((tokens, speed, *(evidence.gain(run.id, name) for name in names)))
    return _table(("GPU KV tokens", "gpu-only tok/s", *names), rows)


def chart(sweep: Sweep, evidence: Evidence) -> Iterator[str]:
    """The same gains as bars of text, one block per policy of MECHANISMS and number of tokens."""
    gains = [
        (run, name, found)
        for run in sweep.runs
        for name in MECHANISMS
        if (found := _gain(evidence, run.id, name)) is not None
    ]
    widest = max((found.value - 1 for _, _, found in gains), default=0.0)
    for run, name, found in gains:
        cells = round(_BAR_CELLS * max(0.0, found.value - 1) / widest) if widest > 0 else 0
        tokens = evidence.runs(run.id, BASELINE)[0].gpu_kv_tokens
        yield f"{tokens:>6} {name:<{_NAME_CELLS}}{'█' * cells} {wording.point(found)}"


def load(runs: Sequence[RunSpec], evidence: Evidence) -> Table:
    """Median latencies over gpu-only's, and what the rows on the host wait for a token."""
    cells = [(run.id, rate) for run in runs for rate in run.rates if rate != BACKLOG]
    rows = []
    for run_id, rate in cells:
        where = evidence.case(run_id, rate)
        for name in evidence.variants(run_id)[1:]:
            ratios = (evidence.ratio(run_id, rate, metric, name) for metric in LOAD_METRICS)
            rows.append((where, name, *ratios, _cpu_tpot(evidence.runs(run_id, name, rate)[0])))
    head = ("case", "policy", *(f"{words} {TIMES}" for words in LOAD_METRICS.values()),
            "TPOT of rows on the host")  # fmt: skip
    return _table(head, rows, wording.ratio)


def _cpu_tpot(run: Run) -> str:
    tier = run.latency_by_tier.get("cpu")
    return MISSING if tier is None else seconds(tier.tpot_s.p50)


def beliefs(runs: Sequence[RunSpec], evidence: Evidence) -> Table:
    """The literal rule with its own host's profile, with another's, and the rules without any."""
    rows = []
    for run, wrong in believing(runs, evidence):
        gains = (_gain(evidence, run.id, name) for name in (LITERAL, wrong, DEFERRED, TWO_BATCH))
        bought = evidence.gain(run.id, LITERAL, wrong)
        rows.append((_case(evidence, run.id), *gains, bought))
    head = ("case", f"{LITERAL}, right profile", f"{LITERAL}, other host's", DEFERRED, TWO_BATCH,
            "right over other")  # fmt: skip
    return _table(head, rows)


def believing(runs: Sequence[RunSpec], evidence: Evidence) -> list[tuple[RunSpec, str]]:
    """Runs in which the literal rule also decided with another host's profile."""
    return [
        (run, name)
        for run in runs
        for name in evidence.variants(run.id)
        if name.startswith(WRONG_BELIEF)
    ]


def ours(plan: Plan, evidence: Evidence) -> Table:
    """Our own policies over gpu-only and over the best of the others."""
    rows = []
    for run_id, own in plan.own_runs.items():
        best = best_of(evidence, run_id, evidence.variants(run_id)[1:])
        for name in plan.ours:
            gain = evidence.gain(own.id, name)
            over_best = evidence.across((own.id, name), (run_id, best))
            rows.append((_case(evidence, run_id), name, gain, best, over_best))
    return _table(("case", "policy", "over gpu-only", "best other", "over that"), rows)


def best_of(evidence: Evidence, run_id: str, names: Sequence[str]) -> str:
    """The policy with the highest throughput, wrong beliefs apart."""
    known = [name for name in names if not name.startswith(WRONG_BELIEF)]
    return max(known, key=lambda name: evidence.throughput(run_id, name))


def made(plan: Plan, evidence: Evidence) -> Table:
    """Every run with its size and the command that repeats it."""
    rows = []
    for run in plan.all_runs:
        result = evidence.results[run.id]
        summary = result.settings[0].workload_summary
        rows.append((
            run.id, summary.source, f"{count(summary.num_requests)} of {count(run.requests)}",
            str(run.seeds), str(run.draws),
            f"{unsteady([result])} of {len(result.runs)}", f"`{result.command}`",
        ))  # fmt: skip
    head = ("run", "lengths", "requests served", "seeds", "draws", "not steady", "command")
    return Table(head, tuple(rows))


def _gain(evidence: Evidence, run_id: str, name: str) -> Estimate | None:
    """None too where the run does not have the policy."""
    return evidence.gain(run_id, name) if name in evidence.variants(run_id) else None


def _case(evidence: Evidence, run_id: str) -> str:
    """Marked where the lengths are assumed."""
    case = evidence.case(run_id)
    return case if evidence.is_measured(run_id) else f"{case} ({wording.EXPLORATORY})"
