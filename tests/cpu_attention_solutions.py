"""Exact results of cases, remembered: levels run the same cases one after the other."""

from collections.abc import Callable
from functools import lru_cache

from tests.cpu_attention_cases import Case, Tensors, expected, filled, tensors
from tests.cpu_attention_numbers import FORMATS
from tests.cpu_attention_runs import POISONS, run
from tests.cpu_attention_tolerance import Expectation, Tolerance, expectation, tolerance_of

# Changes tensors in place. A frozen dataclass or a plain function: what is remembered needs a key.
Change = Callable[[Tensors], None]


@lru_cache(maxsize=120)
def changed_tensors(case: Case, change: Change | None = None) -> Tensors:
    """The case's tensors, changed; nobody else may change them."""
    data = tensors(case)
    if change is not None:
        change(data)
    return data


@lru_cache(maxsize=240)
def _remembered(case: Case, change: Change | None, tolerance: Tolerance) -> Expectation:
    return solved(case, changed_tensors(case, change), tolerance)


def solved(case: Case, data: Tensors, tolerance: Tolerance) -> Expectation:
    """Exact results of any tensors, not remembered."""
    rows = expected(case, data, filled(case, data))
    return expectation(rows, tolerance, FORMATS[case.q_dtype])


def solution(case: Case, level: str, change: Change | None = None) -> Expectation:
    """Exact results of a case, with what the level may be off."""
    return _remembered(case, change, tolerance_of(case.form, level))


def check(
    case: Case, level: str, change: Change | None = None, *, poison: int = POISONS[0]
) -> None:
    """Run a case in poisoned memory and compare it with its solution."""
    result = run(case, changed_tensors(case, change), poison=poison)
    solution(case, level, change).check(result.out, result.lse)
