"""The device constants a modelled result rests on, each with where it comes from."""

from collections.abc import Iterator

from apexbench.reports.outcome import Outcome
from apexbench.reports.panels import Panel, Table, View, nothing
from apexbench.reports.wording import constant as shown
from apexbench.reports.wording import percent
from apexbench.result import DeviceConstant


def build(outcome: Outcome) -> Iterator[Panel]:
    """One table of all devices; a constant shared by settings stands once."""
    found = dict.fromkeys(c for setting in outcome.result.settings for c in setting.constants)
    if not found:
        yield nothing("constants", None, "Constants", "the result names no device constants.")
        return
    columns = ("device", "constant", "value", "kind", "uncertainty", "source")
    table = Table(columns, tuple(_row(constant) for constant in found), frozenset({2, 4}))
    hint = "Kind tells how a value is known; uncertainty is one relative standard deviation."
    yield Panel("constants-all", "Constants", hint, table, is_wide=True)


def _row(constant: DeviceConstant) -> tuple[str, ...]:
    return (
        constant.device,
        constant.name,
        shown(constant.value, constant.unit),
        constant.kind,
        f"± {percent(constant.sigma)}",
        constant.source,
    )


VIEW = View(
    id="constants",
    title="Device constants",
    lead="Measured, from a datasheet, anchored on published measurements, or inferred.",
    place="more",
    build=build,
)
