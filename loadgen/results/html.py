"""``report.html``: one self-contained page."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from loadgen.results.tables import tables
from loadgen.results.text import title


def html(summary: Mapping[str, Any]) -> str:
    """Return the report as a page without a reference to anything outside it; everything is escaped."""
    environment = Environment(loader=PackageLoader("loadgen.results"), autoescape=True, undefined=StrictUndefined)
    template = environment.get_template("report.html.j2")
    return template.render(
        title=title(summary), verdict=summary["verdict"]["status"], run_id=summary["run_id"], tables=tables(summary)
    )
