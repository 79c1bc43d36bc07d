"""How fast prompts are computed and how many sequences live on the host. Places no row.

Prompts. Computed in small equal portions they ride along with decoding, which reads the weights
anyway: time beyond what prompts cost everywhere is a convex function of their tokens per step. So
the best portion is the one that keeps up with the rows that finish, P/O prompt tokens per output
token, unless prompts then hold their blocks for too long or miss TTFT.

Sequences on the host. If CPU rows can add X tokens per second to the GPU's own, R of them have a
mean time per token of R/X: more than R = target * X cannot keep the target however they are served.
What share of that bound keeps it for nearly all depends on how outputs differ, and is learnt from
requests that end. Who would miss TTFT in the queue is taken in beyond the bound, if that saves
those behind.
"""

from typing import NamedTuple

from apexbench.engine.policies.base import Finished, Limits, Targets, Traffic
from apexbench.engine.policies.forecast import Forecast, Ground, Placed
from apexbench.records import NS_PER_S

# Steps over which means are taken, exponentially.
_MEMORY = 64
# Of a target, what is planned with; the rest is for what a plan cannot foresee.
_MARGIN = 0.9
# Prompt tokens per step that are tried.
BUDGETS = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
# Steps for which a portion is kept once it is chosen.
_KEPT_STEPS = 4
# Until enough requests have ended to know how long outputs are.
_FIRST_BUDGET, _ENOUGH_REQUESTS = 512, 8
_FIRST_OUTPUT = 64.0
# Mean steps over which prompts at hand may be spread, and the share of the TTFT target that may
# take; steps for which blocks may lie idle where nobody can be in time any more.
_MAX_SPREAD, _TTFT_SHARE, _IDLE_SPREAD = 8, 0.5, 32
# Share of the bound on sequences: it begins low, because a prompt that was admitted too early
# cannot be undone, shrinks with each request that misses and grows with each that does not;
# ln(1/0.85) / ln(1.008) = 20 that keep the target outweigh one that misses.
_FIRST_SHARE, _LEAST_SHARE, _SHRINK, _GROW = 0.5, 0.05, 0.85, 1.008
# Share of sequences in flight that may be too late before the host takes no more.
_LATE_SHARE = 0.06
# When a prompt has used this share of its TTFT it goes to the host although that is full: it
# would hold up everybody behind it. How much longer than its bare work a prefill takes.
_RESCUE_SHARE, _PREFILL_SLOWDOWN = 0.6, 1.5


class Planned(NamedTuple):
    """A step as it was planned. `spare_ns` is its time beyond what its prompts cost anywhere;
    `potential` the tokens it would have made with as many CPU rows as help.
    """

    ground: Ground
    placed: Placed
    step_ns: float
    spare_ns: float
    tokens: float
    potential: float


class Tempo:
    """Exponential means over the steps planned so far."""

    __slots__ = (
        "_gpu_rows",
        "_potential",
        "_prompt_tokens",
        "_spare_ns",
        "_step_ns",
        "_tokens",
        "_weight",
    )

    def __init__(self) -> None:
        self._weight = self._tokens = self._spare_ns = self._step_ns = 0.0
        self._gpu_rows = self._potential = self._prompt_tokens = 0.0

    def note(self, planned: Planned) -> None:
        """One more step."""
        keep = 1 - 1 / _MEMORY
        self._weight = keep * self._weight + 1
        self._tokens = keep * self._tokens + planned.tokens
        self._spare_ns = keep * self._spare_ns + planned.spare_ns
        self._step_ns = keep * self._step_ns + planned.step_ns
        self._gpu_rows = keep * self._gpu_rows + planned.ground.gpu_rows
        self._potential = keep * self._potential + planned.potential
        self._prompt_tokens = keep * self._prompt_tokens + planned.ground.prefill_tokens

    @property
    def step_ns(self) -> float:
        """Mean step; 0 before the first."""
        return self._step_ns / max(1.0, self._weight)

    def step_ns_with(self, step_ns: float) -> float:
        """What the mean would be after a step of that length."""
        return (self._step_ns + step_ns) / (self._weight + 1)

    @property
    def price(self) -> float:
        """Tokens that a nanosecond of spare time is worth: what it has given so far."""
        return self._tokens / self._spare_ns if self._spare_ns else 0.0

    @property
    def gpu_rows(self) -> float:
        """Mean decode rows on the GPU."""
        return self._gpu_rows / max(1.0, self._weight)

    @property
    def prompt_tokens_per_ns(self) -> float:
        """At which prompts have been computed."""
        return self._prompt_tokens / self._step_ns if self._step_ns else 0.0

    @property
    def potential_per_ns(self) -> float:
        """Tokens per nanosecond with as many CPU rows as help."""
        return self._potential / self._step_ns if self._step_ns else 0.0


class Pace:
    """The limits of each step. Learns from requests that end and steps that were planned."""

    def __init__(self, forecast: Forecast, targets: Targets, max_batched_tokens: int) -> None:
        self.tempo = Tempo()
        self.num_late = 0  # CPU rows that cannot keep the target any more, as last seen
        self._forecast = forecast
        self._ttft_ns = None if targets.ttft_s is None else targets.ttft_s * NS_PER_S
        self.tpot_ns = None if targets.tpot_s is None else targets.tpot_s * NS_PER_S
        self._max_tokens = max_batched_tokens
        self._budget = min(_FIRST_BUDGET, max_batched_tokens)
        self._age = _KEPT_STEPS
        self._share = _FIRST_SHARE
        self._num_ended = self._prompt_tokens = self._output_tokens = 0
        self.last: Planned | None = None

    @property
    def expected_output(self) -> float:
        """Tokens of an average answer, as far as is known."""
        return self._output_tokens / self._num_ended if self._num_ended else _FIRST_OUTPUT

    def keeps_targets(self, step_ns: float, steps_per_token: int = 1) -> bool:
        """Whether rows that need that many steps per token keep the TPOT target if the mean step
        moves towards `step_ns`.
        """
        if self.tpot_ns is None:
            return True
        mean_ns = self.tempo.step_ns_with(step_ns)
        return steps_per_token * mean_ns <= _MARGIN * self.tpot_ns

    def note(self, planned: Planned, num_late: int) -> None:
        """A step was planned; `num_late` of its CPU rows are beyond help."""
        self.tempo.note(planned)
        self.last, self.num_late = planned, num_late

    def repeat(self) -> None:
        """The last planned step once more."""
        if self.last is not None:
            self.tempo.note(self.last)

    def limits(self, traffic: Traffic) -> Limits:
        """What admission may do now."""
        for ended in traffic.finished:
            self._learn(ended)
        max_on_host = self._max_on_host(traffic)
        self._age += 1
        if not (traffic.num_waiting or traffic.prefill_tokens):
            self._age = _KEPT_STEPS  # who comes next finds a portion of its own
        elif self._age > _KEPT_STEPS:
            self._budget, self._age = self._best_budget(traffic, max_on_host), 1
        return Limits(self._budget, max_on_host)

    def _learn(self, ended: Finished) -> None:
        self._num_ended += 1
        self._prompt_tokens += ended.prompt_tokens
        self._output_tokens += ended.output_tokens
        if self.tpot_ns is None or ended.output_tokens == 1:
            return
        tpot_ns = (ended.end_ns - ended.first_token_ns) / (ended.output_tokens - 1)
        step = _SHRINK if tpot_ns > self.tpot_ns else _GROW
        self._share = min(1.0, max(_LEAST_SHARE, self._share * step))

    def _max_on_host(self, traffic: Traffic) -> int | None:
        if self.tpot_ns is None or self._must_rescue(traffic):
            return None
        tempo = self.tempo
        extra_per_ns = tempo.potential_per_ns - tempo.gpu_rows / max(1.0, tempo.step_ns)
        most = max(1, int(self._share * self.tpot_ns * extra_per_ns))
        in_flight = traffic.num_on_host + self.tempo.gpu_rows
        if self.num_late > _LATE_SHARE * in_flight:
            most = min(most, traffic.num_on_host)
        return most

    def _must_rescue(self, traffic: Traffic) -> bool:
        """The head of the queue runs out of time while somebody behind it is still in time."""
        if self._ttft_ns is None or not traffic.num_waiting:
            return False
        work_ns = traffic.head_tokens * self._forecast.prompt_token_ns * _PREFILL_SLOWDOWN
        is_urgent = traffic.head_wait_ns + work_ns > _RESCUE_SHARE * self._ttft_ns
        return is_urgent and traffic.newest_wait_ns < self._ttft_ns

    def _best_budget(self, traffic: Traffic, max_on_host: int | None) -> int:
        """Of those that keep the targets the one with the best token rate."""
        last = self.last
        if last is None or self._num_ended < _ENOUGH_REQUESTS:
            return min(_FIRST_BUDGET, self._max_tokens)
        backlog = self._backlog(traffic, max_on_host)
        allowed_ns = self._time_for_prompts(traffic)
        rest_ns = self._forecast.step_ns(last.ground.with_prompt(0), last.placed)
        best, best_score = self._max_tokens, (-1.0, 0.0)
        for budget in BUDGETS:
            if budget > self._max_tokens:
                break
            with_ns = self._forecast.step_ns(last.ground.with_prompt(budget), last.placed)
            in_time = allowed_ns / max(1.0, backlog / budget * with_ns)
            score = self._score(budget, (with_ns, rest_ns), min(1.0, in_time))
            if score > best_score:
                best, best_score = budget, score
        return best

    def _score(
        self, budget: int, times_ns: tuple[float, float], in_time: float
    ) -> tuple[float, float]:
        """Within the TPOT target as much of the backlog in time as can be, then the token rate.

        Steps with prompts are as frequent as outputs need them; for the TPOT target at least as
        frequent as the rate at which prompts have come lately asks for. A prompt holds its blocks
        while it is computed, in which time they decode nothing. `times_ns` are of steps with and
        without prompts.
        """
        assert self.last is not None
        tokens = self.last.tokens
        per_token = self._prompt_tokens / max(1, self._output_tokens)
        output, prompt = self.expected_output, self._prompt_tokens / self._num_ended
        usual = min(1.0, per_token * tokens / budget)
        mean_ns = _mean(times_ns, usual)
        soon_ns = _mean(times_ns, max(usual, self._frequency(budget, times_ns)))
        if self.tpot_ns is not None and soon_ns > _MARGIN * self.tpot_ns:
            return 0.0, -soon_ns
        decoding_share = (output + 1) / (output + max(1.0, prompt / budget))
        return in_time, min(tokens, budget / max(per_token, 1e-9)) * decoding_share / mean_ns

    def _frequency(self, budget: int, times_ns: tuple[float, float]) -> float:
        """Share f of steps with prompts that keeps up with their rate r of late:
        f budget = r (f T_with + (1 - f) T_without).
        """
        rate = self.tempo.prompt_tokens_per_ns
        left = budget - rate * (times_ns[0] - times_ns[1])
        return min(1.0, rate * times_ns[1] / left) if left > 0 else 1.0

    def _backlog(self, traffic: Traffic, max_on_host: int | None) -> float:
        """Prompt tokens that are there and can have blocks. The host's places are only then a
        reason to hurry when somebody can be in time.
        """
        places = traffic.num_waiting
        if max_on_host is not None:
            places = 0 if self._is_hopeless(traffic) else max_on_host - traffic.num_on_host
        prompt = self._prompt_tokens / self._num_ended
        room = max(0, traffic.free_gpu_tokens) + max(0, places) * prompt
        return traffic.prefill_tokens + min(traffic.waiting_tokens, room)

    def _time_for_prompts(self, traffic: Traffic) -> float:
        """In which the backlog should be computed: a number of mean steps, so that blocks do not
        lie idle, and soon enough for TTFT unless everybody has missed it.
        """
        if self._ttft_ns is None or self._is_hopeless(traffic):
            return _IDLE_SPREAD * self.tempo.step_ns
        return min(_MAX_SPREAD * self.tempo.step_ns, _TTFT_SHARE * self._ttft_ns)

    def _is_hopeless(self, traffic: Traffic) -> bool:
        """Everybody who waits has missed TTFT."""
        waited_ns = min(traffic.head_wait_ns, traffic.newest_wait_ns)
        return self._ttft_ns is not None and waited_ns > self._ttft_ns


def _mean(times_ns: tuple[float, float], frequency: float) -> float:
    """Of steps with prompts, which are that frequent, and without."""
    return frequency * times_ns[0] + (1 - frequency) * times_ns[1]
