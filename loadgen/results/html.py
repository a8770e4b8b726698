"""``report.html``: one self-contained page."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadgen.printable import escaped
from loadgen.results.pictures import pictures, svg
from loadgen.results.summary_schema import Summary
from loadgen.results.tables import answers, details
from loadgen.results.text import subject_of


def html(summary: Summary) -> str:
    """Return the report as a page that needs nothing outside it; everything is escaped."""
    template = environment("loadgen.results").get_template("report.html.j2")
    return template.render(
        title=subject_of(summary).title,
        verdict=summary.verdict.status.value,
        run_id=summary.run_id,
        grafana=summary.grafana,
        answers=answers(summary),
        details=details(summary),
        # Drawn as SVG, in which what comes from the run is escaped already.
        pictures=[(p.title, p.note, Markup(svg(p))) for p in pictures(summary)],  # noqa: S704 see above
    )


def environment(package: str) -> Environment:
    """Return what draws a package's templates, in the style of the report; everything is escaped."""
    loaders = [PackageLoader(name) for name in dict.fromkeys((package, "loadgen.results"))]
    return Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, finalize=_printable)


def _printable(value: object) -> object:
    """Escape what does not print: HTML has no say in it. Markup is ours, and has been through this."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value
