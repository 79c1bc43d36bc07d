"""Single steps and decisions of a run as they stand in its document; chooses none but by number."""

from collections.abc import Iterable, Sequence

from apexbench.records import NS_PER_S, DecisionRecord, PlanForecast, StepRecord, StepTimeline
from apexbench.result import Decision, Prediction, Span, StepTrace, Timeline

MAX_DECISIONS = 64
"""What a document keeps of a run: with up to 16 candidates each, more would outweigh the rest."""


def timeline(timelines: tuple[StepTimeline, ...]) -> Timeline | None:
    """The step kept for the run's most frequent strategy, relative to its own start."""
    if not timelines:
        return None
    record, spans = timelines[0].record, timelines[0].spans
    start = record.start_ns
    return Timeline(
        strategy=record.strategy,
        start_s=start / NS_PER_S,
        step_s=(record.end_ns - start) / NS_PER_S,
        gpu_rows=record.gpu_rows,
        in_layer_rows=record.in_layer_rows,
        deferred_rows=record.deferred_rows,
        prefill_tokens=record.prefill_tokens,
        spans=tuple(
            Span(
                lane=span.lane,
                kind=span.kind,
                group=span.group,
                layer=span.layer,
                rows=span.rows,
                start_s=(span.start_ns - start) / NS_PER_S,
                end_s=(span.end_ns - start) / NS_PER_S,
            )
            for span in spans
        ),
    )


def steps(records: Iterable[StepRecord]) -> tuple[StepTrace, ...]:
    """A stretch of consecutive steps."""
    return tuple(map(_step, records))


def decision_log(records: Sequence[DecisionRecord]) -> tuple[Decision, ...]:
    """At most MAX_DECISIONS of them, evenly spread, the first one included."""
    stride = -(-len(records) // MAX_DECISIONS)
    return tuple(map(_decision, records[:: max(1, stride)]))


def _step(record: StepRecord) -> StepTrace:
    return StepTrace(
        step=record.index,
        start_s=record.start_ns / NS_PER_S,
        step_s=(record.end_ns - record.start_ns) / NS_PER_S,
        strategy=record.strategy,
        prefill_tokens=record.prefill_tokens,
        gpu_rows=record.gpu_rows,
        in_layer_rows=record.in_layer_rows,
        deferred_rows=record.deferred_rows,
    )


def _decision(record: DecisionRecord) -> Decision:
    return Decision(
        step=record.step,
        start_s=record.start_ns / NS_PER_S,
        chosen=record.decision.chosen,
        reason=record.decision.reason,
        candidates=tuple(map(_prediction, record.decision.candidates)),
    )


def _prediction(forecast: PlanForecast) -> Prediction:
    return Prediction(
        plan=forecast.plan,
        strategy=forecast.strategy,
        prefill_tokens=forecast.prefill_tokens,
        in_layer_rows=forecast.in_layer_rows,
        deferred_rows=forecast.deferred_rows,
        step_s=forecast.step_s,
        rate_tok_s=forecast.rate_tok_s,
        gain_tokens=forecast.gain_tokens,
        tpot_s=forecast.tpot_s,
        is_within_targets=forecast.is_within_targets,
    )
