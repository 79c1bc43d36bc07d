"""The sections of the HTML report in reading order; a new view is a new file and a line here."""

from apexbench.reports.panels import View
from apexbench.reports.views import (
    constants,
    formulas,
    kpis,
    lanes,
    latency,
    progress,
    provenance,
    rates,
    strategies,
    tables,
    tiers,
    timeline,
    workload,
)

VIEWS: tuple[View, ...] = (
    kpis.VIEW,
    rates.VIEW,
    timeline.VIEW,
    latency.VIEW,
    tiers.VIEW,
    lanes.VIEW,
    strategies.VIEW,
    progress.VIEW,
    workload.VIEW,
    tables.VIEW,
    constants.VIEW,
    formulas.VIEW,
    provenance.VIEW,
)
