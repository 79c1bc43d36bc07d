"""The page of `apexbench predict --html`: one file that needs nothing else, from its document."""

from collections.abc import Mapping
from typing import Any

from apexbench.reports import predict_sentences as sentences
from apexbench.reports.assets import embedded, environment
from apexbench.reports.predict_document import SteadyPrediction, read
from apexbench.reports.predict_views import steady_panels, step_panels


def render(document: Mapping[str, Any]) -> str:
    """The prediction as one self-contained document; equal predictions give equal bytes."""
    prediction = read(document)
    if isinstance(prediction, SteadyPrediction):
        heading = "Strategies"
        title = "What could every strategy reach at best?"
        headline = sentences.steady_headline(prediction)
        details = sentences.steady_details(prediction)
        panels = tuple(steady_panels(prediction))
    else:
        heading = "Where the time goes"
        title = "What does one step cost, and why?"
        headline = sentences.step_headline(prediction)
        details = sentences.step_details(prediction)
        panels = tuple(step_panels(prediction))
    return (
        environment()
        .get_template("predict.html.j2")
        .render(
            prediction=prediction,
            title=title,
            heading=heading,
            basis=sentences.basis(prediction),
            headline=headline,
            details=details,
            panels=panels,
            **embedded(),
        )
    )
