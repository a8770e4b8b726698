"""``matrix.html``: one self-contained page."""

from loadgen.matrix.document import Document, letter
from loadgen.results.html import environment


def html(document: Document) -> str:
    """Return the document as a page without a reference to anything outside its folder; everything is escaped."""
    return environment("loadgen.matrix").get_template("matrix.html.j2").render(document=document, letter=letter)
