"""The page with the charts of a run that goes on; it asks for its data itself, at ``llm/data`` beside it."""

from importlib.resources import files


def page() -> str:
    """Return the page: one file that needs nothing from elsewhere."""
    return files("loadgen.live").joinpath("templates", "llm.html").read_text(encoding="utf-8")
