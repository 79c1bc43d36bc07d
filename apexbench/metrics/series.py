"""The state of a run over time and its choice of strategies, for charts; never for metrics."""

from collections.abc import Iterable, Sequence

import numpy as np

from apexbench.metrics.totals import Totals
from apexbench.records import NS_PER_S, STRATEGIES, Checkpoint, RunLog, StepRecord
from apexbench.result import Series, Window
from apexbench.statistics import FloatArray

MAX_SERIES_POINTS = 200


def decisions(checkpoints: Sequence[Checkpoint]) -> dict[str, int]:
    """Steps of the whole run by strategy, for those that occurred."""
    if not checkpoints:
        return {}
    steps = zip(STRATEGIES, checkpoints[-1].strategy_steps, strict=True)
    return {strategy: count for strategy, count in steps if count > 0}


def series_of(log: RunLog, totals: Totals) -> Series | None:
    """The whole run in at most MAX_SERIES_POINTS equal intervals; None for a run without length.

    `t_s` are the middles of the intervals; states are averages over them.
    """
    num_intervals = min(MAX_SERIES_POINTS, len(log.checkpoints) - 1)
    if num_intervals < 1 or log.end_ns <= 0:
        return None
    edges_ns = np.linspace(0, log.end_ns, num_intervals + 1)
    tokens = np.diff(totals.at("output_tokens", edges_ns))
    states = {
        name: tuple(totals.means(name, edges_ns).tolist())
        for name in ("gpu_rows", "cpu_resident", "waiting")
    }
    return Series(
        t_s=tuple(((edges_ns[1:] + edges_ns[:-1]) / 2 / NS_PER_S).tolist()),
        output_tok_s=tuple((tokens / np.diff(edges_ns) * NS_PER_S).tolist()),
        strategy_share=_strategy_shares(totals, edges_ns, decisions(log.checkpoints)),
        **states,
    )


def stretch_amid(
    stretches: Sequence[tuple[StepRecord, ...]], window: Window
) -> tuple[StepRecord, ...]:
    """The stretch of consecutive steps nearest to the middle of the window; () where none exist."""
    middle_ns = (window.start_s + window.end_s) / 2 * NS_PER_S

    def distance(stretch: tuple[StepRecord, ...]) -> float:
        return abs((stretch[0].start_ns + stretch[-1].end_ns) / 2 - middle_ns)

    return min(stretches, key=distance, default=())


def _strategy_shares(
    totals: Totals, edges_ns: FloatArray, strategies: Iterable[str]
) -> dict[str, tuple[float, ...]]:
    """Share of the steps of each interval; all zero where no step was made."""
    steps = {name: np.diff(totals.at(f"steps_{name}", edges_ns)) for name in strategies}
    every = np.sum(list(steps.values()), axis=0)
    divisor = np.where(every > 0, every, 1.0)
    return {name: tuple((counts / divisor).tolist()) for name, counts in steps.items()}
