"""What every HTML page embeds: the templates' environment, the style, the script and plotly."""

from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from apexbench.reports.palette import DASH_ARRAYS, MARKER_PATHS, css_color
from apexbench.reports.plotting import to_script


@cache
def environment() -> jinja2.Environment:
    """Templates of the package; text is escaped, and an unknown name is an error."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _text("templates", name)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["script_json"] = lambda value: Markup(to_script(value))
    made.filters["css_color"] = css_color
    made.globals |= {"marker_paths": MARKER_PATHS, "dash_arrays": DASH_ARRAYS}
    return made


def embedded() -> dict[str, Markup]:
    """`style`, `script` and `plotly` as a template takes them."""
    return {
        "style": Markup(_text("static", "report.css")),
        "script": Markup(_text("static", "report.js")),
        "plotly": Markup(_plotly()),
    }


def _text(folder: str, name: str) -> str:
    return files("apexbench.reports").joinpath(folder, name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 - 5 MB that only a page needs

    return str(get_plotlyjs())
