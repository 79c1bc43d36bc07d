"""Our own policy: costs every strategy with the belief and takes the best within the targets.

A step is worth its tokens less the price of its spare time, the time beyond what its prompts cost
anywhere; the price is what spare time has given so far. Maximising tokens - price * time step by
step maximises tokens per time in the long run (Dinkelbach's method for ratios).
"""

from collections.abc import Sequence
from typing import NamedTuple

from apexbench.engine.plan import strategy_name
from apexbench.engine.policies.base import (
    Candidates,
    Choice,
    Limits,
    PolicyContext,
    Row,
    Traffic,
)
from apexbench.engine.policies.deferral import Deferral
from apexbench.engine.policies.forecast import Forecast, Ground, Placed
from apexbench.engine.policies.options import Option, hidden_in_one, hidden_in_two, options
from apexbench.engine.policies.pacing import Pace, Planned
from apexbench.engine.policies.urgency import ServingOrder, serving_order, with_deferrable
from apexbench.records import NS_PER_S, Decision, PlanForecast

DEFAULT_COHORTS = 8
# What deciding takes on a host, charged to the step: p99 of CPU time over 3,000 decisions among 12
# candidates with 5 to 250 CPU rows, of which setting the pace takes 240 us; CPython 3.11 on a core
# of an AMD EPYC server (tests/benchmarks/test_planning_overhead.py measures it again).
_PACE_NS, _DECISION_NS, _DECISION_ROW_NS = 240_000, 310_000, 1_100
# A plan is used again for at most so many steps of the same mix: orders of rows and contexts age.
_MAX_REUSE = 8
# Contexts within this many tokens are the same mix.
_SAME_TOKENS = 64
# Mean steps after which a row that nobody serves is deferred whatever its target: well before
# admission pauses for its sake.
_PATIENCE_STEPS = 64
# Context of a CPU row before any was seen, and how fast GPU rows teach it.
_FIRST_CONTEXT, _LEARNING_RATE = 512.0, 0.1


class _Rated(NamedTuple):
    """A candidate with what the belief says of it. `gain` is in tokens."""

    option: Option
    step_ns: float
    spare_ns: float
    tokens: float
    gain: float
    is_within: bool


class _Decided(NamedTuple):
    """All that led to a choice."""

    ground: Ground
    rated: tuple[_Rated, ...]
    chosen: int
    reason: str


class Planner:
    """One or two sub-batches, in-layer rows and deferred cohorts in any mixture, and the pace of
    prompts. gpu_only is always a candidate.
    """

    name = "planner"
    uses_cpu = True

    def __init__(self, context: PolicyContext) -> None:
        self._thresholds = context.thresholds
        self._forecast = Forecast(context.belief)
        self._deferral = Deferral(context, DEFAULT_COHORTS)
        self._pace = Pace(self._forecast, context.targets, context.thresholds.max_batched_tokens)
        self._now_ns = 0
        self._context = _FIRST_CONTEXT
        self._mix: tuple[object, ...] = ()
        self._seen: tuple[Row, ...] = ()
        self._reused = 0
        self._choice = Choice()
        self._strategy = ""
        self._oldest = (-1, -1)
        self._stalled_ns = 0
        self._decided: _Decided | None = None
        self._started_ns: int | None = None
        self._cpu_share = 0.0

    def limits(self, traffic: Traffic) -> Limits:
        """How many prompt tokens this step may compute, and how many sequences the host keeps."""
        self._now_ns = traffic.now_ns
        self._learn_from_step()
        return self._pace.limits(traffic)

    def choose(self, work: Candidates) -> Choice:
        """The best candidate; the last choice again while the mix is the same."""
        if work.base_rows == 0:
            self._decided, self._mix, self._started_ns = None, (), None
            return self._deferral.drain(work)
        self._started_ns = None if work.swapped_tokens else self._now_ns
        if self._is_same_mix(work):
            self._reused += 1
            self._pace.repeat()
            return self._choice
        self._reused = 0
        choice = self._decide(work)
        self._choice = choice._replace(planning_ns=_PACE_NS)
        taken_ns = _PACE_NS + _DECISION_NS + _DECISION_ROW_NS * len(work.cpu_rows)
        return choice._replace(planning_ns=taken_ns)

    @property
    def predicted_step_ns(self) -> float | None:
        """What the last chosen plan should take; None where nothing was predicted."""
        decided = self._decided
        return None if decided is None else decided.rated[decided.chosen].step_ns

    def decision(self) -> Decision | None:
        """The last choice with all its candidates; None where the last one was used again."""
        decided = self._decided
        if decided is None or self._reused:
            return None
        layers = self._forecast.num_layers
        candidates = [_plan_forecast(r, decided.ground, layers) for r in decided.rated]
        return Decision(decided.chosen, decided.reason, tuple(candidates))

    def _is_same_mix(self, work: Candidates) -> bool:
        """Free rows are the same tuple until one comes or goes."""
        mix = (
            *(work.num_gpu_rows, work.gpu_kv_tokens // (_SAME_TOKENS * (1 + work.num_gpu_rows))),
            *(work.prefill_tokens // _SAME_TOKENS, len(work.chunks)),
            *(work.num_cohorts, work.deferred_rows, bool(work.steps_since_entry)),
        )
        is_same = mix == self._mix and work.cpu_rows is self._seen and self._reused < _MAX_REUSE
        self._mix, self._seen = mix, work.cpu_rows
        return is_same

    def _decide(self, work: Candidates) -> Choice:
        self._learn_context(work)
        order = serving_order(
            work.cpu_rows,
            now_ns=self._now_ns,
            target_ns=self._pace.tpot_ns,
            step_ns=self._pace.tempo.step_ns,
            expected_output=self._pace.expected_output,
        )
        if self._is_stalled(work):
            order = with_deferrable(order, work.cpu_rows[0])
        ground = self._forecast.ground(work, order.rows, self._context)
        entering = self._entering(work, order)
        found = self._options(work, ground, entering)
        rated = tuple([self._rate(ground, option) for option in found])
        best, reason = self._best(rated)
        self._decided = _Decided(ground, rated, best, reason)
        self._remember(ground, rated[best], order.num_late)
        return _choice(order.rows, rated[best].option.placed)

    def _is_stalled(self, work: Candidates) -> bool:
        """The oldest free row has got no token for long: nothing for it was worth GPU time."""
        if not work.cpu_rows:
            return False
        oldest = (work.cpu_rows[0].id, work.cpu_rows[0].generated)
        self._stalled_ns = self._stalled_ns if oldest == self._oldest else self._now_ns
        self._oldest = oldest
        return self._now_ns - self._stalled_ns > _PATIENCE_STEPS * self._pace.tempo.step_ns

    def _options(self, work: Candidates, ground: Ground, entering: int) -> list[Option]:
        limits = self._thresholds
        if len(work.cpu_rows) + work.deferred_rows < limits.min_cpu_rows:
            return [Option("gpu_only", Placed())]
        most = limits.max_running_rows
        if limits.max_in_layer_rows is not None:
            most = limits.max_in_layer_rows
        return list(options(ground, self._forecast, entering, most))

    def _learn_context(self, work: Candidates) -> None:
        if work.cpu_rows:
            self._context = work.cpu_kv_tokens / len(work.cpu_rows)
        elif work.num_gpu_rows:
            seen = work.gpu_kv_tokens / work.num_gpu_rows
            self._context += _LEARNING_RATE * (seen - self._context)

    def _entering(self, work: Candidates, order: ServingOrder) -> int:
        """Rows of the cohort that is due: any row where deferred ones keep the target, else those
        that miss it anyway.
        """
        layers = self._forecast.num_layers
        keeps = self._pace.keeps_targets(self._pace.tempo.step_ns, layers + 1)
        if not (keeps or order.num_late):
            return 0
        due = len(self._deferral.entering(work))
        return due if keeps else min(due, order.num_late)

    def _rate(self, ground: Ground, option: Option) -> _Rated:
        placed, forecast = option.placed, self._forecast
        step_ns = forecast.step_ns(ground, placed)
        spare_ns = max(1.0, step_ns - forecast.prompt_ns(ground))
        tokens = ground.gpu_rows + placed.in_layer
        rate = tokens + ground.deferred(placed) / (forecast.num_layers + 1)
        price = self._pace.tempo.price
        gain = rate - price * spare_ns if price else rate / spare_ns
        is_within = self._pace.keeps_targets(step_ns)
        return _Rated(option, step_ns, spare_ns, rate, gain, is_within)

    def _best(self, rated: tuple[_Rated, ...]) -> tuple[int, str]:
        """Index of the plan to use, and why. What is within the targets comes first."""
        order = sorted(range(len(rated)), key=lambda i: (rated[i].is_within, rated[i].gain))
        best = order[-1]
        top, alone = rated[best], rated[0]
        if not top.is_within:
            return 0, "no candidate keeps the TPOT target"
        margin = self._thresholds.offload_gain_margin * alone.tokens
        if best and alone.is_within and top.gain - alone.gain < margin:
            return 0, "the gain over gpu_only is below offload_gain_margin"
        slack = self._thresholds.hysteresis * abs(top.tokens - alone.tokens)
        for index in order[:-1]:
            candidate = rated[index]
            is_last = candidate.option.label == self._strategy and candidate.is_within
            if is_last and top.gain - candidate.gain < slack:
                return index, "the best gains less than hysteresis over the strategy in use"
        return best, "best predicted tokens for its time within the targets"

    def _learn_from_step(self) -> None:
        """The step that was planned last has ended just now: the next one is asked for at once.
        Nothing is learnt from steps with swaps, which no forecast knows.
        """
        started_ns, predicted_ns = self._started_ns, self.predicted_step_ns
        if started_ns is None or predicted_ns is None or self._decided is None:
            return
        self._started_ns = None
        decided = self._decided
        placed = decided.rated[decided.chosen].option.placed
        self._forecast.calibration.observe(
            predicted_ns,
            self._now_ns - started_ns,
            has_cpu_rows=bool(placed.in_layer or decided.ground.deferred(placed)),
            cpu_share=self._cpu_share,
        )

    def _remember(self, ground: Ground, chosen: _Rated, num_late: int) -> None:
        self._strategy = chosen.option.label
        self._cpu_share = self._forecast.cpu_share(ground, chosen.option.placed)
        self._pace.note(
            Planned(
                *(ground, chosen.option.placed, chosen.step_ns, chosen.spare_ns, chosen.tokens),
                self._potential(ground) * chosen.step_ns,
            ),
            num_late,
        )

    def _potential(self, ground: Ground) -> float:
        """Tokens per nanosecond were there as many CPU rows as help."""
        forecast = self._forecast
        plans = (
            Placed(),
            Placed(hidden_in_one(ground, forecast)),
            Placed(*hidden_in_two(ground, forecast)),
        )
        return max(
            (ground.gpu_rows + placed.in_layer) / forecast.step_ns(ground, placed)
            for placed in plans
        )


def _choice(rows: Sequence[Row], placed: Placed) -> Choice:
    """B gets the first rows: its result is awaited last."""
    end_b = placed.in_b
    end_a = end_b + placed.in_a
    start = len(rows) - placed.entering
    return Choice(
        in_layer_a=tuple([row.id for row in rows[end_b:end_a]]),
        in_layer_b=tuple([row.id for row in rows[:end_b]]),
        enter=tuple([row.id for row in rows[start:]]) if placed.entering else (),
        freezes_cohorts=not placed.joins,
    )


def _plan_forecast(rated: _Rated, ground: Ground, num_layers: int) -> PlanForecast:
    placed = rated.option.placed
    deferred = ground.deferred(placed)
    steps_per_token = num_layers + 1 if deferred else 1
    has_rows = bool(deferred or ground.gpu_rows or placed.in_layer)
    return PlanForecast(
        plan=rated.option.label,
        strategy=strategy_name(
            defers=deferred > 0,
            has_in_layer=placed.in_layer > 0,
            has_two_batches=placed.in_b > 0,
        ),
        prefill_tokens=ground.prefill_tokens,
        in_layer_rows=placed.in_layer,
        deferred_rows=deferred,
        step_s=rated.step_ns / NS_PER_S,
        rate_tok_s=rated.tokens / rated.step_ns * NS_PER_S,
        gain_tokens=rated.gain,
        tpot_s=steps_per_token * rated.step_ns / NS_PER_S if has_rows else None,
        is_within_targets=rated.is_within,
    )
