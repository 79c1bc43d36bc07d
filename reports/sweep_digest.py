"""A sweep in a sentence and in a small table, for terminal and Markdown; draws nothing."""

from collections.abc import Iterator, Sequence
from math import inf

from apexbench.reports.evidence import ratio_cell
from apexbench.reports.outcome import Outcome, Scenario
from apexbench.reports.panels import Table
from apexbench.reports.prose import Name, Number, Part, Sentence, sentence
from apexbench.reports.summary import UNSTEADY_MARK
from apexbench.reports.swept import own_weights, swept_value, swept_words
from apexbench.reports.tpot_target import OVER
from apexbench.reports.wording import MISSING, THIN, count, number, seconds
from apexbench.result import Sweep, SweepPoint

_MAX_LISTED = 8  # points; of more only who is best how often
_CROSS = "\u00d7"


def sweeps_of(outcome: Outcome, scenario: Scenario) -> tuple[Sweep, ...]:
    """The sweeps of a scenario in the order of the document."""
    return tuple(sweep for sweep in outcome.result.sweeps if sweep.scenario == scenario.name)


def sweep_sentence(outcome: Outcome, sweep: Sweep) -> Sentence:
    """The policy with the highest throughput at every value, or how often which one is.

    Only variants with the weights of the setting: with smaller ones it is another model.
    """
    best = _best_points(outcome, sweep)
    target = _target(outcome, sweep)
    names = f" {_CROSS} ".join(map(swept_words, sweep.parameters))
    start = f"Highest throughput at saturation by {names}: "
    if not best:
        return sentence(start, "no policy produced anything.")
    if len(best) > _MAX_LISTED:
        return sentence(start, _counted(best), ".")
    return sentence(start, _listed(best, target), ".", _meaning(best, target))


def sweep_note(outcome: Outcome, sweep: Sweep) -> str:
    """What the cells of `sweep_table` are."""
    return (
        f"Sweep: output throughput of {sweep.baseline} at saturation, and of the others as a ratio "
        f"to it at the same point (95{THIN}% interval); {count(sweep.num_requests)} requests asked "
        f"for per run.{_meaning(sweep.points, _target(outcome, sweep))}"
    )


def sweep_table(outcome: Outcome, sweep: Sweep) -> Table:
    """A row per point, a column per variant; what `sweep_note` explains is marked."""
    target = _target(outcome, sweep)
    points = {(point.values, point.variant): point for point in sweep.points}
    places = dict.fromkeys(point.values for point in sweep.points)
    others = dict.fromkeys(p.variant for p in sweep.points if p.variant != sweep.baseline)
    rows = tuple(
        (
            *map(swept_value, values),
            _rate_cell(points.get((values, sweep.baseline)), target),
            *(_ratio_cell(points.get((values, name)), target) for name in others),
        )
        for values in places
    )
    columns = (*map(swept_words, sweep.parameters), f"{sweep.baseline} tok/s", *others)
    return Table(columns, rows, frozenset(range(len(columns))))


def _target(outcome: Outcome, sweep: Sweep) -> float:
    """TPOT target in seconds, infinite where there is none."""
    settings = (s for s in outcome.result.settings if s.scenario == sweep.scenario)
    return next((s.slo.tpot_s for s in settings if s.slo.tpot_s is not None), inf)


def _best_points(outcome: Outcome, sweep: Sweep) -> tuple[SweepPoint, ...]:
    names = own_weights(outcome) | {sweep.baseline}
    best: dict[tuple[float, ...], SweepPoint] = {}
    for point in sweep.points:
        rate = point.output_throughput_tok_s
        rival = best.get(point.values)
        is_better = rival is None or rate > rival.output_throughput_tok_s
        if point.variant in names and rate > 0 and is_better:
            best[point.values] = point
    return tuple(best.values())


def _listed(best: Sequence[SweepPoint], target: float) -> Iterator[Part]:
    """ "2 000 apex 1.81x (1.70-1.93); 8 000 gpu-only"."""
    for place, point in enumerate(best):
        yield "; " if place else ""
        yield f" {_CROSS} ".join(map(swept_value, point.values))
        yield " "
        yield Name(point.variant)
        if point.ratio is not None:
            yield " "
            yield Number("swept_ratio", point.ratio, ratio_cell(point))
        yield _marks(point, target)


def _counted(best: Sequence[SweepPoint]) -> Iterator[Part]:
    names = [point.variant for point in best]
    for place, name in enumerate(dict.fromkeys(names)):
        yield ", " if place else ""
        yield Name(name)
        yield " at "
        yield Number("swept_points", names.count(name), count(names.count(name)))
    yield f" of {len(best)} points"


def _rate_cell(point: SweepPoint | None, target: float) -> str:
    if point is None:
        return MISSING
    return f"{number(point.output_throughput_tok_s)}{_marks(point, target)}"


def _ratio_cell(point: SweepPoint | None, target: float) -> str:
    return MISSING if point is None else f"{ratio_cell(point)}{_marks(point, target)}"


def _marks(point: SweepPoint, target: float) -> str:
    over = f"{THIN}{OVER}" if _is_over(point, target) else ""
    return over if point.is_steady else f"{over}{THIN}{UNSTEADY_MARK}"


def _is_over(point: SweepPoint, target: float) -> bool:
    """Where there is no p90, a median above the target tells the same."""
    return (point.tpot_p90_s or point.tpot_p50_s or 0.0) > target


def _meaning(points: Sequence[SweepPoint], target: float) -> str:
    """Of the marks that occur."""
    text = ""
    if any(_is_over(point, target) for point in points):
        text += f" {OVER}: TPOT p90 above the target of {seconds(target)}."
    if not all(point.is_steady for point in points):
        text += f" {UNSTEADY_MARK}: not steady."
    return text
