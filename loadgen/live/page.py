"""The page of a run, and what is added to Locust's own page; served with the web UI, it needs nothing from elsewhere.

Its data come from ``llm/data``, next to it. uPlot, which draws its charts, is the copy of the dashboards' preview.
"""

from collections.abc import Mapping
from importlib.resources import files

PAGE = "llm.html"

ASSETS: Mapping[str, str] = {
    path.rpartition("/")[2]: path
    for path in (
        f"web/{PAGE}",
        "web/llm.css",
        "web/llm.js",
        "web/charts.js",
        "web/format.js",
        "web/tab.js",
        "web/form.css",
        "vendor/uplot-1.6.32/uPlot.min.css",
        "vendor/uplot-1.6.32/uPlot.iife.min.js",
    )
}
"""Their files, by name."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'self'"
)
"""The page's Content-Security-Policy: code, styles and data come from the web UI only, in whose tab it may be shown."""


def asset(name: str) -> bytes:
    """Return the content of a file; raises KeyError for any other name."""
    return files("loadgen.live").joinpath(*ASSETS[name].split("/")).read_bytes()
