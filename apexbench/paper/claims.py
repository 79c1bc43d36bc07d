"""Each claim against what ran: rows with a verdict; draws no table and makes no run."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from apexbench.compare.variants import BASELINE
from apexbench.engine.deployment import Deployment
from apexbench.paper import profiled, wording
from apexbench.paper.evidence import Estimate, Evidence, strategy_shares
from apexbench.paper.plan import Plan
from apexbench.paper.schema import Claim
from apexbench.paper.wording import EXPLORATORY, INSIDE, NOT_TESTABLE, OUTSIDE

LITERAL = "apex"
DEFERRED = "static:deferred"
TWO_BATCH = "static:two_batch"
NEO = "neo"
LATENCY = "latency_per_token_p50_s"
_TWO = 2  # fewest workloads of which one can be the largest


@dataclass(frozen=True, slots=True)
class Row:
    """One case of a claim. `ours` is the estimate as text; `estimate` is None where there is none.

    `verdict` is inside, outside, not testable or exploratory.
    """

    claim: Claim
    case: str
    estimate: Estimate | None
    ours: str
    verdict: str
    why: str
    outputs: str = ""  # output lengths of the workload, for cases that must agree


@dataclass(frozen=True, slots=True)
class Judge:
    """What claims are held against: results, and deployments by GPU name."""

    evidence: Evidence
    deployments: Mapping[str, Deployment]

    def rows(self, claim: Claim) -> tuple[Row, ...]:
        """One row per case of the claim."""
        tests: Mapping[str, Callable[[Claim], Iterator[Row]]] = {
            "gain": self._gains,
            "latency": self._latencies,
            "order": self._order,
            "kernel": self._kernel,
            "share": _rule_share,
            "cpu_share": self._cpu_share,
            "sample": self._sample,
            "none": _untested,
        }
        rows = tuple(tests[claim.test](claim))
        if claim.untestable is not None:
            return tuple(_withheld(row, claim.untestable) for row in rows)
        return _agreeing(rows) if claim.rows_must_agree else rows

    def _gains(self, claim: Claim) -> Iterator[Row]:
        candidate, baseline = _sides(claim)
        for name in claim.runs:
            estimate = self.evidence.gain(name, candidate, baseline)
            row = self._bounded(claim, name, "inf", estimate)
            outputs = self.evidence.setting(name).workload.rpartition("/")[2]
            yield replace(row, ours=wording.gain(estimate), outputs=outputs)

    def _latencies(self, claim: Claim) -> Iterator[Row]:
        candidate, baseline = _sides(claim)
        for name in claim.runs:
            for rate in claim.rates:
                estimate = self.evidence.ratio(name, rate, LATENCY, candidate, baseline)
                row = self._bounded(claim, name, rate, estimate)
                yield replace(row, ours=wording.ratio(estimate))

    def _bounded(self, claim: Claim, run_id: str, rate: str, estimate: Estimate | None) -> Row:
        """A row by the claim's bounds; assumed lengths and unequal requests give no verdict."""
        case = self.evidence.case(run_id, rate)
        row = Row(claim, case, estimate, "", NOT_TESTABLE, wording.UNEQUAL)
        if estimate is None:
            return row
        if not self.evidence.is_measured(run_id):
            return replace(row, verdict=EXPLORATORY, why=wording.ASSUMED_LENGTHS)
        verdict, why = (_preserved if claim.test == "latency" else _overlap)(claim, estimate)
        reasons = [why]
        if verdict == OUTSIDE and claim.test == "gain":
            reasons += self._causes(claim, run_id)
        if not self.evidence.is_steady(run_id, _sides(claim), rate):
            reasons.append(wording.UNSTEADY)
        return replace(row, verdict=verdict, why="; ".join(reasons))

    def _causes(self, claim: Claim, run_id: str) -> Iterator[str]:
        """Numbers that say why: what the policy did, and what another one makes of it."""
        candidate, baseline = _sides(claim)
        run = self.evidence.runs(run_id, candidate)[0]
        yield wording.cause(candidate, strategy_shares(run))
        other = NEO if baseline == NEO else DEFERRED
        if other != candidate and other in self.evidence.variants(run_id):
            yield wording.beside(other, self.evidence.gain(run_id, other))

    def _order(self, claim: Claim) -> Iterator[Row]:
        """Whether the first run has the largest gain among measured lengths."""
        candidate, baseline = _sides(claim)
        measured = (name for name in claim.runs if self.evidence.is_measured(name))
        found = ((name, self.evidence.gain(name, candidate, baseline)) for name in measured)
        gains = {name: estimate for name, estimate in found if estimate is not None}
        cases = [(self.evidence.case(name), estimate) for name, estimate in gains.items()]
        row = Row(claim, "", None, wording.order(cases), NOT_TESTABLE, wording.TOO_FEW)
        if len(gains) >= _TWO:
            verdict, why = self._largest(claim, gains)
            row = replace(row, verdict=verdict, why=why)
        yield row

    def _largest(self, claim: Claim, gains: Mapping[str, Estimate]) -> tuple[str, str]:
        """No verdict while the two largest have overlapping bands."""
        first, second, *_ = sorted(gains, key=lambda name: -gains[name].value)
        if gains[first].overlaps(gains[second].low, gains[second].high):
            return NOT_TESTABLE, wording.BANDS_OVERLAP
        verdict = INSIDE if first == claim.runs[0] else OUTSIDE
        return verdict, wording.largest(self.evidence.case(first))

    def _kernel(self, claim: Claim) -> Iterator[Row]:
        candidate, _ = _sides(claim)
        ours, theirs = claim.runs
        estimate = self.evidence.across((ours, candidate), (theirs, candidate))
        yield replace(self._bounded(claim, ours, "inf", estimate), ours=wording.gain(estimate))

    def _cpu_share(self, claim: Claim) -> Iterator[Row]:
        for gpu in claim.gpus:
            rates = profiled.attention_rates(self.deployments[gpu])
            estimate = _exactly(rates.cpu_gb_per_s / rates.gpu_gb_per_s)
            verdict, why = _overlap(claim, estimate)
            yield Row(claim, gpu, estimate, wording.share(estimate), verdict, why)

    def _sample(self, claim: Claim) -> Iterator[Row]:
        assert claim.rows is not None
        assert claim.cpu_us is not None
        assert claim.gpu_us is not None
        for gpu in claim.gpus:
            found = profiled.profile_sample(self.deployments[gpu], claim.rows, claim.cpu_us)
            estimate = _exactly(found.cpu_s / found.gpu_s)
            detail = wording.sample(found.context, found.cpu_s, found.gpu_s, claim.gpu_us * 1e-6)
            ours = f"{wording.ratio(estimate)}: {detail}"
            yield Row(claim, gpu, estimate, ours, *_overlap(claim, estimate))


def judge_all(plan: Plan, judge: Judge) -> tuple[tuple[Row, ...], ...]:
    """Rows by claim, in the order of the plan."""
    return tuple(judge.rows(claim) for claim in plan.file.claims)


def overall(rows: Sequence[Row]) -> str:
    """A claim's verdict: that of its rows with one, "" where they differ."""
    found = {row.verdict for row in rows if row.verdict in (INSIDE, OUTSIDE)}
    if not found:
        return NOT_TESTABLE
    return found.pop() if len(found) == 1 else ""


def bounds(claim: Claim) -> tuple[float, float]:
    """The claim's range in the unit of the estimates: ratios and fractions; open ends are infinite.

    A gain of 84 % is a ratio of 1.84, a share of 13 % is 0.13.
    """
    low = -math.inf if claim.low is None else claim.low
    high = math.inf if claim.high is None else claim.high
    if claim.unit != "%":
        return low, high
    offset = 0.0 if claim.test in ("share", "cpu_share") else 1.0
    return offset + low / 100, offset + high / 100


def place(claim: Claim, estimate: Estimate) -> str:
    """inside, below or above the claim's range."""
    low, high = bounds(claim)
    return INSIDE if estimate.overlaps(low, high) else wording.side(estimate, low)


def _sides(claim: Claim) -> tuple[str, str]:
    assert claim.candidate is not None
    return claim.candidate, claim.baseline or BASELINE


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value, 1, "profile")


def _overlap(claim: Claim, estimate: Estimate) -> tuple[str, str]:
    """Inside: the band overlaps the claim's range."""
    low, high = bounds(claim)
    where = place(claim, estimate)
    if where != INSIDE:
        return OUTSIDE, where
    return INSIDE, wording.inside(is_median_inside=low <= estimate.value <= high)


def _preserved(claim: Claim, estimate: Estimate) -> tuple[str, str]:
    """A claim without a lower bound holds only if the whole interval keeps the upper one."""
    low, high = bounds(claim)
    if math.isfinite(low):
        return _overlap(claim, estimate)
    if estimate.basis != "seeds":
        return NOT_TESTABLE, wording.NO_INTERVAL
    return INSIDE if estimate.high <= high else OUTSIDE, wording.upper_end(estimate, high)


def _rule_share(claim: Claim) -> Iterator[Row]:
    shares = [profiled.rule_share(x) for x in claim.attention_over_linear]
    middle = sorted(shares)[len(shares) // 2]
    estimate = Estimate(middle, min(shares), max(shares), len(shares), "profile")
    verdict, _ = _overlap(claim, estimate)
    ours = f"{wording.share(_exactly(min(shares)))} to {wording.share(_exactly(max(shares)))}"
    yield Row(claim, "", estimate, ours, verdict, wording.ARITHMETIC)


def _untested(claim: Claim) -> Iterator[Row]:
    yield Row(claim, "", None, wording.gain(None), NOT_TESTABLE, claim.untestable or "")


def _withheld(row: Row, reason: str) -> Row:
    return replace(row, verdict=NOT_TESTABLE, why=reason)


def _agreeing(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """No verdict where prompt lengths contradict each other at the same output lengths.

    One below and one above contradict, too: between them it may be inside.
    """
    places: dict[str, set[str]] = {}
    for row in rows:
        if row.estimate and row.verdict in (INSIDE, OUTSIDE):
            places.setdefault(row.outputs, set()).add(place(row.claim, row.estimate))
    torn = {outputs for outputs, found in places.items() if len(found) > 1}
    return tuple(
        _withheld(row, wording.PROMPTS_DISAGREE) if row.outputs in torn else row for row in rows
    )
