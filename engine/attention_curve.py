"""Seconds of attention per row, piecewise linear in the row's length; measures nothing."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AttentionCurve:
    """`seconds[i]` is what one row of `tokens[i]` tokens adds to a job; tokens ascend from above 0.

    Made by `curve_through`, which keeps the two laws of attention: more tokens never take less
    time, and the same tokens in more rows never take less time.
    """

    tokens: tuple[float, ...]
    seconds: tuple[float, ...]

    def job_seconds(self, rows: int, kv_tokens: int) -> float:
        """Seconds of `rows` rows (at least one) whose lengths sum to `kv_tokens`."""
        return rows * self.row_seconds(kv_tokens / rows)

    def row_seconds(self, length: float) -> float:
        """Seconds of one row; beyond the ends the outermost pieces go on."""
        knots, values = self.tokens, self.seconds
        if len(knots) == 1:
            return values[0] * max(1.0, length / knots[0])
        right = min(max(bisect_left(knots, length), 1), len(knots) - 1)
        left = right - 1
        slope = (values[right] - values[left]) / (knots[right] - knots[left])
        return values[left] + slope * (length - knots[left])


def curve_through(tokens: Sequence[float], seconds: Sequence[float]) -> AttentionCurve:
    """The curve through these knots, moved as little as the two laws ask for.

    Seconds per token must not grow with the length (else splitting a row would save time): knots
    where they do are pooled at their mean. Seconds must not fall: a knot below the one before it is
    lifted.
    """
    rates = _falling([value / length for length, value in zip(tokens, seconds, strict=True)])
    lifted: list[float] = []
    for length, rate in zip(tokens, rates, strict=True):
        lifted.append(max(rate * length, lifted[-1] if lifted else 0.0))
    return AttentionCurve(tuple(tokens), tuple(lifted))


def _falling(values: Sequence[float]) -> list[float]:
    """The nearest sequence that never rises, by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while pools and pools[-1][0] < mean:
            before, size = pools.pop()
            mean = (before * size + mean * count) / (size + count)
            count += size
        pools.append((mean, count))
    return [mean for mean, count in pools for _ in range(count)]
