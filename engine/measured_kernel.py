"""The CPU kernel named `measured`: this project's own, with what its host's profile says of it."""

from dataclasses import dataclass, replace
from itertools import starmap

from apexbench.engine.attention_curve import AttentionCurve, curve_through
from apexbench.engine.hardware import CpuKernel, HostProfile, Rate
from apexbench.engine.measured_attention import MEASURED_HEADS, MeasuredCurve
from apexbench.engine.models import ModelShape
from apexbench.engine.profile_files import Constant
from apexbench.errors import UsageError

MEASURED = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredKernel(CpuKernel):
    """One curve of a host, for one model: `gb_per_s` is the rate of all `threads` together.

    `row_us` is, as in every kernel, work on one core: the measured time of a row by the number of
    threads, for as many query heads as the model has. `corrections` are (tokens, factor).
    """

    gb_per_s: Rate
    threads: int
    corrections: tuple[tuple[int, float], ...]

    def bytes_per_s(  # type: ignore[explicit-override]  # typing.override came with 3.12
        self, host: HostProfile, threads: int, *, is_gqa: bool, dtype: str
    ) -> float:
        """As measured; it was chosen for these threads, heads and dtype."""
        del host, is_gqa, dtype
        self._check(threads)
        return self.gb_per_s.value * 1e9

    def row_curve(  # type: ignore[explicit-override]
        self, threads: int, bytes_per_token: int
    ) -> AttentionCurve | None:
        """Seconds per row by its length; None where the straight line is what was measured."""
        self._check(threads)
        if all(factor == 1 for _, factor in self.corrections):
            return None
        row_s, rate = self.row_us.value * 1e-6 / threads, self.gb_per_s.value * 1e9
        tokens = [length for length, _ in self.corrections]
        seconds = starmap(
            lambda length, factor: factor * (row_s + length * bytes_per_token / rate),
            self.corrections,
        )
        return curve_through(tokens, list(seconds))

    def _check(self, threads: int) -> None:
        if threads != self.threads:
            raise UsageError(
                f"CPU kernel '{self.name}' is for {self.threads} threads, not {threads}; deploy it"
                " again for another number"
            )


def measured_kernel(
    host: HostProfile, model: ModelShape, dtype: str, threads: int
) -> MeasuredKernel:
    """What `host` was measured to do for this model; UsageError where nobody measured it."""
    if host.attention is None:
        raise UsageError(
            f"host '{host.name}' has no measured CPU kernel; measure this machine with apexbench"
            " profile and pass --host local.toml, or use --cpu-kernel apexbench, ispc or paper"
        )
    curve = host.attention.curve(dtype, model.num_heads / model.num_kv_heads, threads)
    return MeasuredKernel(
        name=MEASURED,
        title=f"The kernel of this project as measured on {host.name}",
        supports_int8="int8" in host.attention.dtypes,
        row_us=_row_us(curve, model),
        dispatch_us=curve.dispatch_us,
        gb_per_s=curve.gb_per_s,
        threads=threads,
        corrections=tuple(zip(curve.tokens, curve.factors, strict=True)),
    )


def _row_us(curve: MeasuredCurve, model: ModelShape) -> Constant:
    """On one core, for the model's query heads."""
    scale = curve.threads * model.num_heads / MEASURED_HEADS
    measured = curve.row_us
    source = f"{measured.source}; x {curve.threads} threads, for {model.num_heads} query heads"
    return replace(measured, value=measured.value * scale, source=source)
