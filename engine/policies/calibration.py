"""Learns how far a belief is off from what steps really took. Predicts nothing itself.

Two numbers: `scale`, by which everything takes longer, from steps without CPU rows; and
`cpu_ratio`, by which CPU attention takes longer than that, from steps with them.
"""

from math import exp, log

# Share of a surprise that is learnt at once; single steps also wait for what no plan knows.
_RATE = 0.1
# A surprise counts as this much at most, either way.
_MOST = log(1.25)
# A step depends on the CPU when its time changes by this share of a change of CPU time; else the
# CPU is hidden, and only a step that is this much longer tells that it no longer was.
_DEPENDS, _EMERGES = 0.1, log(1.06)
# How much faster than a surprise the CPU's share in it is corrected, at most.
_MOST_LEVERAGE = 3.0
_BOUNDS = (log(0.25), log(8.0))
# What was learnt of the CPU fades while it is not used, over so many steps: it is tried again.
_FADING_STEPS = 2000


class Calibration:
    """Corrections of one belief."""

    __slots__ = ("_log_cpu_ratio", "_log_scale")

    def __init__(self) -> None:
        self._log_scale = self._log_cpu_ratio = 0.0

    @property
    def scale(self) -> float:
        """Real over believed time of a step without CPU rows."""
        return exp(self._log_scale)

    @property
    def cpu_ratio(self) -> float:
        """Real over believed time of CPU attention, over and above `scale`."""
        return exp(self._log_cpu_ratio)

    def observe(
        self, predicted_ns: float, actual_ns: float, *, has_cpu_rows: bool, cpu_share: float
    ) -> None:
        """A step took `actual_ns`; `cpu_share` is d(ln step) / d(ln CPU time) of the prediction,
        which held the corrections made so far.
        """
        surprise = max(-_MOST, min(_MOST, log(max(1.0, actual_ns) / max(1.0, predicted_ns))))
        if not has_cpu_rows:
            self._log_scale += _RATE * surprise
            self._log_cpu_ratio *= 1 - 1 / _FADING_STEPS
        elif cpu_share > _DEPENDS or surprise > _EMERGES:
            leverage = min(_MOST_LEVERAGE, 1 / max(cpu_share, _DEPENDS))
            moved = self._log_cpu_ratio + _RATE * leverage * surprise
            self._log_cpu_ratio = max(_BOUNDS[0], min(_BOUNDS[1], moved))
