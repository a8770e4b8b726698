"""``report.html``: one self-contained page."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loadgen.printable import escaped
from loadgen.results.document import ABBREVIATIONS, Document
from loadgen.results.pictures.drawing import INK, THEME, Picture, svg


def html(document: Document) -> str:
    """Return the report as a page that needs nothing outside it; everything is escaped."""
    template = environment("loadgen.results").get_template("report.html.j2")
    return template.render(document=document, abbreviations=ABBREVIATIONS)


def environment(package: str) -> Environment:
    """Return what draws a package's templates, in the style of the report; everything is escaped."""
    loaders = [PackageLoader(name) for name in dict.fromkeys((package, "loadgen.results"))]
    made = Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, finalize=_printable)
    made.globals.update(theme=THEME, ink=INK, drawn_as_svg=_drawn)
    return made


def _drawn(picture: Picture) -> Markup:
    """Draw a picture as SVG, in which what comes from the run is escaped already."""
    return Markup(svg(picture))  # noqa: S704 see above


def _printable(value: object) -> object:
    """Escape what does not print: HTML has no say in it. Markup is ours, and has been through this."""
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value
