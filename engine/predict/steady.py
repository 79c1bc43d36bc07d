"""The steady state of every strategy at its best rows, read off the lanes. Decode only.

"Best" is output throughput, and again under a bound on the time per token of every row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apexbench.engine.capacity import GIB
from apexbench.engine.predict.lanes import Load, Rows, SteadyState, settle
from apexbench.engine.predict.machine import Machine
from apexbench.engine.predict.mix import MAX_ROWS
from apexbench.engine.predict.search import Climb, Point, Score
from apexbench.engine.predict.sensitivity import resource_shares
from apexbench.errors import InputError, UsageError

# A fused plan needs a row of either sort, so no fewer can be compared.
_MIN_HOST_ROWS = 2
HOST_MEMORY, TPOT = "host_memory", "tpot"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `max_cpu_rows` is what host memory holds; `tpot_s` bounds every row."""

    machine: Machine
    context: int
    gpu_rows: int
    max_cpu_rows: int
    cohorts: int
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class Optimum:
    """A strategy at its best rows. TPOT is that of the slowest row of the tier; None: no rows."""

    output_throughput_tok_s: float
    step_s: float
    in_layer_rows: int
    deferred_rows: int
    cohorts: int
    tpot_gpu_s: float
    tpot_cpu_s: float | None
    bottleneck: str

    @property
    def tpot_s(self) -> float:
        """Of the slowest row."""
        return max(self.tpot_gpu_s, self.tpot_cpu_s or 0.0)


@dataclass(frozen=True, slots=True)
class SteadyStates:
    """Every strategy for throughput alone, and under the bound (None where it cannot keep it).

    `best` and `best_bounded` name the winners; the latter two are None without a bound.
    """

    question: Question
    strategies: Mapping[str, Optimum]
    best: str
    bounded: Mapping[str, Optimum | None] | None
    best_bounded: str | None


@dataclass(frozen=True, slots=True)
class _Strategy:
    """How the coordinates of a search become rows; `lowest` keeps the strategy itself."""

    lowest: Point
    rows: Callable[[Point, int], Rows]


STRATEGIES: Mapping[str, _Strategy] = {
    "gpu_only": _Strategy((), lambda _point, _cohorts: Rows()),
    "in_layer": _Strategy((1,), lambda point, _: Rows(point[0])),
    "two_batch": _Strategy((0, 1), lambda point, _: Rows(point[0], point[1])),
    "deferred": _Strategy((1,), lambda point, n: Rows(0, 0, point[0], min(n, point[0]))),
    "fused": _Strategy((1, 1), lambda point, n: Rows(point[0], 0, point[1], min(n, point[1]))),
}


def ask(
    machine: Machine,
    *,
    context: int,
    gpu_rows: int | None = None,
    host_memory_gib: float | None = None,
    cohorts: int | None = None,
    tpot_s: float | None = None,
) -> Question:
    """A question with its numbers checked against the memories.

    `host_memory_gib` is what the KV cache may use of the host; None: what the host leaves to it.
    UsageError for numbers out of range, InputError for rows that do not fit.
    """
    _check_range("--context", context, machine.deployment.model.max_position)
    max_cohorts = machine.deployment.model.num_layers + 1
    if cohorts is not None:
        _check_range("--cohorts", cohorts, max_cohorts)
    return Question(
        machine=machine,
        context=context,
        gpu_rows=_gpu_rows(machine, context, gpu_rows),
        max_cpu_rows=_host_rows(machine, context, host_memory_gib),
        cohorts=cohorts or max_cohorts,
        tpot_s=tpot_s,
    )


def solve(question: Question) -> SteadyStates:
    """The optimum of every strategy; InputError where none keeps the bound."""
    searches = {name: _Search(question, strategy) for name, strategy in STRATEGIES.items()}
    free = {name: search.fastest() for name, search in searches.items()}
    best = max(free, key=lambda name: free[name].output_throughput_tok_s)
    if question.tpot_s is None:
        return SteadyStates(question, free, best, None, None)
    nearest = {name: search.within(question.tpot_s) for name, search in searches.items()}
    kept = {name: at for name, at in nearest.items() if at.tpot_s <= question.tpot_s}
    if not kept:
        raise _out_of_reach(question.tpot_s, nearest)
    return SteadyStates(
        question,
        free,
        best,
        {name: kept.get(name) for name in STRATEGIES},
        max(kept, key=lambda name: kept[name].output_throughput_tok_s),
    )


@dataclass(slots=True)
class _Search:
    """All that was tried for one strategy; both searches share it."""

    question: Question
    strategy: _Strategy
    _known: dict[Point, SteadyState] = field(default_factory=dict)

    def fastest(self) -> Optimum:
        """The rows with the highest throughput."""
        point = self._best(self._throughput)
        return self._optimum(point, self._limit(point))

    def within(self, tpot_s: float) -> Optimum:
        """The same among those that keep the bound, else the one that misses it by least."""

        def score(point: Point) -> Score:
            slowest = self._slowest_s(point)
            return (0.0, -slowest) if slowest > tpot_s else (1.0, *self._throughput(point))

        point = self._best(score)
        is_free = point == self._best(self._throughput)
        return self._optimum(point, self._limit(point) if is_free else TPOT)

    def _best(self, score: Callable[[Point], Score]) -> Point:
        return Climb(self.strategy.lowest, self.question.max_cpu_rows, score).best()

    def _throughput(self, point: Point) -> Score:
        return (self._state(point).output_throughput_tok_s,)

    def _state(self, point: Point) -> SteadyState:
        if point not in self._known:
            self._known[point] = self._settle(self.question.machine, point)
        return self._known[point]

    def _settle(self, machine: Machine, point: Point) -> SteadyState:
        question = self.question
        load = Load(question.gpu_rows, question.context)
        return settle(machine.costs(), load, self._rows(point))

    def _rows(self, point: Point) -> Rows:
        return self.strategy.rows(point, self.question.cohorts)

    def _slowest_s(self, point: Point) -> float:
        """A deferred row's token takes a step per layer and one more, any other row's one step."""
        layers = self.question.machine.deployment.model.num_layers
        steps = layers + 1 if self._rows(point).deferred else 1
        return steps * self._state(point).step_s

    def _optimum(self, point: Point, bottleneck: str) -> Optimum:
        state, rows = self._state(point), self._rows(point)
        return Optimum(
            output_throughput_tok_s=state.output_throughput_tok_s,
            step_s=state.step_s,
            in_layer_rows=rows.in_layer,
            deferred_rows=rows.deferred,
            cohorts=rows.cohorts,
            tpot_gpu_s=state.step_s,
            tpot_cpu_s=self._slowest_s(point) if rows.total else None,
            bottleneck=bottleneck,
        )

    def _limit(self, point: Point) -> str:
        """Host memory if one more row would help, else the resource the step mostly waits for."""
        if point and sum(point) == self.question.max_cpu_rows and self._wants_more(point):
            return HOST_MEMORY
        shares = resource_shares(
            self.question.machine, lambda machine: self._settle(machine, point).step_s
        )
        return max(shares, key=lambda name: shares[name])

    def _wants_more(self, point: Point) -> bool:
        now = self._state(point).output_throughput_tok_s
        grown = (
            tuple(x + (index == axis) for index, x in enumerate(point))
            for axis in range(len(point))
        )
        machine = self.question.machine
        return any(self._settle(machine, at).output_throughput_tok_s > now for at in grown)


def _check_range(flag: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise UsageError(f"{flag} is {value}; expected 1 to {most}")


def _gpu_rows(machine: Machine, context: int, wanted: int | None) -> int:
    """As many as fit, or those wanted if they do. A decode-only step activates its rows alone."""
    if wanted is not None and wanted < 1:
        raise UsageError(f"--gpu-rows is {wanted}; expected at least 1")
    batch = wanted or 1
    tokens = machine.deployment.capacity(False, batch, batch).gpu_kv_tokens
    fitting = tokens // context
    if fitting < batch:
        most = f"at most {fitting} rows" if fitting else f"a context of at most {tokens} tokens"
        raise InputError(
            f"{batch} GPU rows of {context} tokens need {batch * context} KV tokens, the GPU holds "
            f"{tokens}; use {most}, or --gpu-kv-tokens"
        )
    if batch > MAX_ROWS or (wanted is None and fitting > MAX_ROWS):
        raise InputError(
            f"{wanted or fitting} GPU rows are more than a step may have; "
            f"use --gpu-rows of at most {MAX_ROWS}"
        )
    return wanted or fitting


def _host_rows(machine: Machine, context: int, memory_gib: float | None) -> int:
    at = machine.deployment
    row_bytes = context * at.model.kv_bytes_per_token(at.cpu_kv_dtype)
    if memory_gib is None:
        rows = at.capacity(True, 1, 1).cpu_kv_tokens // context
    else:
        rows = int(memory_gib * GIB // row_bytes)
    if rows > MAX_ROWS:
        raise InputError(
            f"host memory holds {rows} rows of {context} tokens; expected at most {MAX_ROWS}, "
            f"which take {MAX_ROWS * row_bytes / GIB:.2f} GiB: use a longer --context or less "
            "--host-memory-gib"
        )
    if rows < _MIN_HOST_ROWS:
        raise InputError(
            f"host memory holds {max(rows, 0)} rows of {context} tokens; expected at least "
            f"{_MIN_HOST_ROWS}, which take {_MIN_HOST_ROWS * row_bytes / GIB:.2f} GiB"
        )
    return rows


def _out_of_reach(tpot_s: float, nearest: Mapping[str, Optimum]) -> InputError:
    name = min(nearest, key=lambda key: nearest[key].tpot_s)
    return InputError(
        f"no strategy keeps tpot={tpot_s:g}; the lowest is {nearest[name].tpot_s:.4g} s, {name}: "
        "relax the bound or use fewer --gpu-rows"
    )
