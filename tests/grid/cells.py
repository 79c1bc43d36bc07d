"""The planner against every other policy, cell by cell: 2 GPUs x 4 workloads x 3 loads.

A cell is won when the planner reaches LEAST of the best other policy. At saturation the measure is
output throughput, and only policies whose p90 TPOT keeps the workload's target are rivals: without
the target anyone can trade latency for tokens. At 0.8 and 1.0 of gpu-only's saturation it is
goodput, which has the targets in it. The same again on other true devices than the policies
believe in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from apexbench.compare.cells import Cell
from apexbench.compare.draws import draw_values
from apexbench.compare.matrix import setting_cells
from apexbench.compare.perturbed import on_devices
from apexbench.compare.pool import Batch, CellRunner
from apexbench.compare.scenarios import Scenario, preset_values, scenarios
from apexbench.compare.variants import BASELINE, parse_variants
from apexbench.config import parse_rate, resolve
from apexbench.errors import InputError
from apexbench.result import Run

Pair = tuple[str, str]  # GPU, workload
GPUS = ("t4", "a10")
WORKLOADS = ("osc", "azure-conv", "azure-code", "livebench")
SATURATION, RATES = "inf", ("0.8x", "1x")
LOADS = (SATURATION, *RATES)
OURS = "planner"
RIVALS = (
    BASELINE, "fastdecode", "neo", "apex", "static:deferred", "static:two_batch", "static:in_layer",
)  # fmt: skip
# In draws those that are the best other one somewhere on the profiles' devices; time is limited.
DRAW_RIVALS = (BASELINE, "neo", "static:deferred", "static:two_batch")
LEAST = 0.98
"""What the planner must reach of the best other policy."""
LEAST_OF_BASELINE = 0.99
"""And of gpu-only: a difference below 1 % is called none anywhere else, too."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is run: requests at saturation of each pair and at a rate, seeds, draws by number.

    A draw has one seed, because it is one of many, and of the requests at saturation
    `share_of_backlog`. At a rate it has all: goodput counts requests, and of a hundred two more or
    less are 2 %.
    """

    backlog: Mapping[Pair, int]
    online: int
    seeds: int
    draws: Sequence[int]
    share_of_backlog: float = 0.5

    def of_draw(self) -> "Size":
        """What is run in one draw."""
        return replace(self.scaled(self.share_of_backlog), online=self.online, seeds=1)

    def scaled(self, share: float) -> "Size":
        """The same with that share of all requests."""
        backlog = {pair: int(share * count) for pair, count in self.backlog.items()}
        return replace(self, backlog=backlog, online=int(share * self.online))


@dataclass(frozen=True, slots=True)
class Place:
    """A cell; `draw` None: the devices are as the profiles say."""

    gpu: str
    workload: str
    load: str
    draw: int | None = None

    @property
    def cell(self) -> tuple[str, str, str]:
        """The cell without its draw."""
        return self.gpu, self.workload, self.load

    def __str__(self) -> str:
        load = "saturation" if self.load == SATURATION else self.load
        return f"{self.gpu} {self.workload} {load}"


@dataclass(frozen=True, slots=True)
class Score:
    """Means over seeds. `best_rival` is the best other policy that may be compared."""

    place: Place
    ours: float
    baseline: float
    best_rival: str
    best: float
    tpot_p90_s: float | None
    tpot_target_s: float | None
    is_steady: bool

    @property
    def of_best(self) -> float:
        """Ours over the best other's; above any bound where nobody else gives anything."""
        return self.ours / self.best if self.best else float("inf")

    @property
    def of_baseline(self) -> float:
        """Ours over gpu-only's."""
        return self.ours / self.baseline if self.baseline else float("inf")

    @property
    def is_won(self) -> bool:
        """As good as the best other, and not below gpu-only."""
        return self.of_best >= LEAST and self.of_baseline >= LEAST_OF_BASELINE

    @property
    def keeps_target(self) -> bool:
        """Nine requests in ten keep the TPOT target."""
        if self.tpot_target_s is None or self.tpot_p90_s is None:
            return True
        return self.tpot_p90_s <= self.tpot_target_s


def scores(size: Size, runner: CellRunner) -> Iterator[Score]:
    """Every cell of the pairs of `size`, profiles first, then one draw after the other."""
    for pair in size.backlog:
        for draw in (None, *size.draws):
            yield from scores_of(size, pair, draw, runner)


def scores_of(size: Size, pair: Pair, draw: int | None, runner: CellRunner) -> Iterator[Score]:
    """All loads on one set of true devices; nothing where the model no longer fits."""
    now, rivals = (size, RIVALS) if draw is None else (size.of_draw(), DRAW_RIVALS)
    counts = (now.backlog[pair], now.online)
    try:
        backlog, online = (_on(_scenario(pair, count, rivals), draw) for count in counts)
    except InputError:
        return
    seeds = range(now.seeds)
    waiting = _run({SATURATION: _cells(backlog, SATURATION, None, seeds)}, runner)
    base = waiting[SATURATION][BASELINE]
    rps = sum(run.metrics.request_throughput_rps for run in base) / len(base)
    arriving = _run({load: _cells(online, load, rps, seeds) for load in RATES}, runner)
    for load, runs in (waiting | arriving).items():
        yield _score(Place(*pair, load, draw), runs, backlog.slo.tpot_s)


def _cells(
    scenario: Scenario, load: str, saturation_rps: float | None, seeds: Sequence[int]
) -> Sequence[Cell]:
    placed = scenario.placements
    return setting_cells(
        scenario, parse_rate(load), saturation_rps, seeds, placed, duration_s=None
    ).cells


def _on(scenario: Scenario, draw: int | None) -> Scenario:
    if draw is None:
        return scenario
    return on_devices(scenario, draw_values(scenario, 0, draw))


def _scenario(pair: Pair, requests: int, rivals: Sequence[str]) -> Scenario:
    gpu, workload = pair
    asked: Mapping[str, object] = {
        "gpu": gpu, "workload": workload, "policies": (*rivals, OURS), "requests": requests,
    }  # fmt: skip
    config = resolve(asked, {}, None, preset_values)
    (found,) = scenarios(config, parse_variants(config.policies))
    return found


def _run(
    cells: Mapping[str, Sequence[Cell]], runner: CellRunner
) -> dict[str, dict[str, list[Run]]]:
    """Runs by load and variant, all in one batch."""
    batch = Batch([cell for part in cells.values() for cell in part])
    runner.run(batch)
    assert not batch.failures, batch.failures
    results = iter(batch.ordered())
    found: dict[str, dict[str, list[Run]]] = {}
    for load, part in cells.items():
        runs = found[load] = {}
        for result in islice(results, len(part)):
            runs.setdefault(result.run.variant, []).append(result.run)
    return found


def _score(place: Place, runs: Mapping[str, list[Run]], tpot_s: float | None) -> Score:
    is_backlog = place.load == SATURATION
    values = {name: _mean(found, is_backlog=is_backlog) for name, found in runs.items()}
    others = {
        name: value
        for name, value in values.items()
        if name != OURS and (name == BASELINE or not is_backlog or _keeps(runs[name], tpot_s))
    }
    best = max(others, key=lambda name: others[name])
    return Score(
        place=place,
        ours=values[OURS],
        baseline=values[BASELINE],
        best_rival=best,
        best=others[best],
        tpot_p90_s=_tpot_p90_s(runs[OURS]),
        tpot_target_s=tpot_s,
        is_steady=all(run.window.is_steady for run in (*runs[OURS], *runs[best])),
    )


def _mean(runs: Sequence[Run], *, is_backlog: bool) -> float:
    key = "output_throughput_tok_s" if is_backlog else "goodput_rps"
    return sum(float(getattr(run.metrics, key)) for run in runs) / len(runs)


def _tpot_p90_s(runs: Sequence[Run]) -> float | None:
    found = [run.metrics.tpot_s.p90 for run in runs]
    known = [value for value in found if value is not None]
    return max(known) if known else None


def _keeps(runs: Sequence[Run], tpot_s: float | None) -> bool:
    found = _tpot_p90_s(runs)
    return tpot_s is None or (found is not None and found <= tpot_s)
