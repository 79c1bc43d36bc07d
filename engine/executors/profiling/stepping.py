"""Python time of the scheduler on this host, step by step; nothing is executed between."""

from collections.abc import Iterator

from apexbench.cpu_kernels.bench.samples import summarise
from apexbench.engine.blocks import BlockPool
from apexbench.engine.clock import WallClock
from apexbench.engine.costs import FlatCosts
from apexbench.engine.executors.profiling.measurements import StepTime, Timing
from apexbench.engine.executors.profiling.pace import Pace
from apexbench.engine.plan import StepPlan, StepResult
from apexbench.engine.policies.base import PolicyContext
from apexbench.engine.policies.gpu_only import GpuOnly
from apexbench.engine.scheduler import Scheduler
from apexbench.engine.thresholds import Thresholds
from apexbench.engine.tiers import KvMemory
from apexbench.records import NS_PER_S, Request

ROWS = (1, 16, 64, 256)
PROMPT_TOKENS, BLOCK_TOKENS = 64, 16
NUM_LAYERS = 32


def measure_steps(num_samples: int, pace: Pace) -> Iterator[StepTime]:
    """Decode steps of gpu-only by rows: what every policy pays, whatever it decides."""
    for rows in ROWS:
        pace.step(f"scheduling {rows} rows")
        seconds = _step_seconds(rows, num_samples)
        found = summarise(seconds)
        yield StepTime(rows, Timing(found.median, found.spread, found.n))


def _step_seconds(rows: int, num_samples: int) -> list[float]:
    scheduler = _decoding(rows, num_samples)
    clock, seconds = WallClock(), []
    for _ in range(num_samples):
        began = clock.now_ns()
        plan = scheduler.schedule()
        assert plan is not None
        planned = clock.now_ns()
        result = _result(plan)
        resumed = clock.now_ns()
        scheduler.commit(plan, result)
        seconds.append((planned - began + clock.now_ns() - resumed) / NS_PER_S)
    return seconds


def _decoding(rows: int, num_steps: int) -> Scheduler:
    """A scheduler whose rows have their prompts behind them, with room for `num_steps` more."""
    thresholds = Thresholds(max_running_rows=max(ROWS), gpu_kv_watermark=0.0)
    tokens_per_row = PROMPT_TOKENS + num_steps + 4 * BLOCK_TOKENS
    pool = BlockPool(rows * (1 + tokens_per_row // BLOCK_TOKENS), BLOCK_TOKENS)
    scheduler = Scheduler(
        policy=GpuOnly(PolicyContext(FlatCosts(num_layers=NUM_LAYERS), thresholds)),
        memory=KvMemory(pool, None, thresholds.gpu_kv_watermark),
        thresholds=thresholds,
        num_layers=NUM_LAYERS,
    )
    for number in range(rows):
        # Lengths differ, so that rows do not all need a block in the same step.
        scheduler.add(Request(number, 0, PROMPT_TOKENS + number % BLOCK_TOKENS, num_steps))
    while len(scheduler.gpu_rows) < rows:
        plan = scheduler.schedule()
        assert plan is not None
        scheduler.commit(plan, _result(plan))
    return scheduler


def _result(plan: StepPlan) -> StepResult:
    """Every row that samples gets its token."""
    tokens = []
    for batch in plan.batches:
        tokens += [(row, 1) for row in batch.gpu_rows]
        tokens += [(chunk.sequence, 1) for chunk in batch.chunks if chunk.is_last]
    return StepResult(plan.index, plan.index + 1, tuple(tokens))
