"""What all pictures share: colours, axes, and how a picture becomes SVG for a page or a PNG file.

Names of models and the like are drawn as plain text: never as mathematics, and escaped in SVG.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO, StringIO
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loadgen.measure.limits import ENOUGH_REQUESTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = Sequence[float] | NDArray[np.float64]

THEME = {
    "blue": ("#0067a5", "#5bb2ec"),
    "orange": ("#c84e00", "#f58b4c"),
    "purple": ("#7a4fb0", "#b99be6"),
    "green": ("#23713e", "#62c080"),
    "yellow": ("#8a6a00", "#d9b441"),
    "teal": ("#00797f", "#4fc3cc"),
    "quiet": ("#676a70", "#9a9ea6"),
    "grid": ("#e4e4e1", "#2a2d32"),
    "page": ("#ffffff", "#15171a"),
}
"""Colours by name: in a light page and in PNG files, and in a dark page. A page has them as CSS variables."""

INK = "#1b1c1e"
"""Colour of text; in a page that of its text."""
QUIET, GRID, PAGE = (THEME[name][0] for name in ("quiet", "grid", "page"))
COLOURS = tuple(THEME[name][0] for name in ("blue", "orange", "purple", "green", "yellow", "teal"))
"""Of lines, in this order."""
BLUE, ORANGE = COLOURS[:2]

WIDTH_IN, HEIGHT_IN = 9.0, 3.9
POINTS_PER_INCH = 100
"""While a picture is drawn."""
FEWEST_REQUESTS = ENOUGH_REQUESTS
"""Requests, below which a picture of them over time, or over their input, shows nothing that the tables do not."""
MOST_POINTS = 1_500
"""Points of a picture that shows single requests: a page with all of a million would have 100 MB."""
LOGARITHMIC_FROM = 30
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

DASHED: Any = (0, (4, 3))
"""Style of lines that are limits, not measurements."""
SHARE = "share of the answers, %"
"""What an ECDF's vertical axis shows."""

_CORNERS = 400
"""Of an ECDF: more do not show."""
_DPI, _COMPRESSION = 144, 2
"""Of PNG files: higher compression takes longer than drawing, for a tenth of the size."""
_LINE_IN, _LETTERS = 0.16, 130
"""Height of a line of a heading, and how many letters it has."""


@dataclass(frozen=True)
class Picture:
    """A picture. It is drawn, and its layout is computed, once for both formats, when it is first asked for."""

    name: str
    """Name of its file, without ``.png``."""
    title: str
    note: str
    """How to read it."""
    draw: Callable[["Figure"], None]
    height_in: float = HEIGHT_IN

    @cached_property
    def figure(self) -> "Figure":
        """The picture, drawn and laid out; to be used inside the settings of :func:`svg` and :func:`png`."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH_IN, self.height_in), layout="constrained")
        self.draw(figure)
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)
        figure.set_layout_engine("none")
        return figure


def svg(picture: Picture) -> str:
    """Return a picture as an SVG element for a page that has :data:`THEME` as variables; it needs nothing else."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # figure.savefig would draw it twice

    file = StringIO()
    with _settings(picture.name):
        picture.figure.set_facecolor("none")
        FigureCanvasSVG(picture.figure).print_svg(file, metadata={"Date": None})  # type: ignore[no-untyped-call]
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(
        r"<svg [^>]*?(viewBox=\"[\d. ]+\")[^>]*>", rf'<svg \1 role="img" aria-label="{picture.title}">', text, count=1
    )
    text = re.sub(r"<style [^>]*>.*?</style>", "", text, flags=re.DOTALL)  # would hold for the whole page
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every picture, and nothing refers to them
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's
    for name, (light, _) in THEME.items():
        text = text.replace(f": {light}", f": var(--{name})")
    return text.replace(f": {INK}", ": currentColor").strip()


def png(picture: Picture, heading: str) -> bytes:
    """Return a picture as PNG. It is passed on alone, so it has its title, its note, and what it is of: the heading."""
    lines = [line for text in (picture.title, *heading.split("\n"), picture.note) for line in wrap(text, _LETTERS)]
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = BytesIO()
    with _settings(picture.name), _headed(picture.figure, "\n".join(lines)) as figure:
        figure.set_facecolor(PAGE)
        figure.set_dpi(_DPI)
        options = {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": _COMPRESSION}}
        FigureCanvasAgg(figure).print_png(file, **options)  # type: ignore[no-untyped-call]
    return file.getvalue()


@contextmanager
def _headed(figure: "Figure", heading: str) -> Iterator["Figure"]:
    """Have a heading above a picture that is laid out already, for as long as a ``with`` lasts."""
    width, height = figure.get_size_inches()
    taller = height + _LINE_IN * (heading.count("\n") + 1.5)
    places = [(axes, axes.get_position(original=True).bounds) for axes in figure.axes]
    figure.set_size_inches(width, taller)
    for axes, (left, bottom, across, up) in places:
        axes.set_position((left, bottom * height / taller, across, up * height / taller))
    text = figure.text(0.01, 1 - 0.5 * _LINE_IN / taller, heading, va="top", fontsize=9, color=QUIET)
    yield figure
    text.remove()
    figure.set_size_inches(width, height)
    for axes, place in places:
        axes.set_position(place)


@contextmanager
def _settings(name: str) -> Iterator[None]:
    """Draw the same twice, and keep identifiers of one picture apart from those of another on the same page."""
    import matplotlib as mpl

    ours: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "figure.dpi": POINTS_PER_INCH,
        "font.size": 10,
        "text.color": INK,
        "text.parse_math": False,
        "axes.edgecolor": QUIET,
        "axes.facecolor": "none",
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "legend.frameon": False,
    }
    with mpl.rc_context(ours), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have letters that the font lacks
        yield


def legend(axes: "Axes", columns: int = 3) -> None:
    """Put a legend above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, fontsize=9, markerscale=1.5)


def from_zero(set_limits: Callable[[float, float], object], most: float) -> None:
    """Let an axis begin at 0, and have a length even where nothing but 0 is shown."""
    set_limits(0, most or 1.0)


def plain(axis: Any) -> None:  # noqa: ANN401 matplotlib's two kinds of axis share no public type
    """Write 12,000 and 0.00001, never 1.2e4 or 1e-05."""
    axis.set_major_formatter(lambda value, _: f"{value:,.10f}".rstrip("0").rstrip("."))


def scale(axes: "Axes", side: str, values: Values, label: str, *, zero: bool = True) -> None:
    """Give an axis, ``x`` or ``y``, its label and limits; it is logarithmic where values are far apart.

    ``zero``: whether a linear axis begins at 0.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    axis = getattr(axes, f"{side}axis")
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known)]
    wide = len(known) > 0 and known.min() > 0 and known.max() > LOGARITHMIC_FROM * known.min()
    if wide:
        getattr(axes, f"set_{side}scale")("log")
        decades = np.log10(known.max() / known.min())
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))  # noqa: PLR2004 labels would touch
        axis.set_minor_locator(NullLocator())
    elif len(known):
        if zero:
            from_zero(getattr(axes, f"set_{side}lim"), 1.15 * float(known.max()))
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))  # 14,000 and 16,000 side by side would touch
    getattr(axes, f"set_{side}label")(f"{label} (logarithmic)" if wide else label)
    plain(axis)


def draw_ecdf(axes: "Axes", values: NDArray[np.float64], colour: str, label: str | None) -> None:
    """Draw the share of some values that is at most x, in %: all corners of few values, some evenly spread of many."""
    ordered = np.sort(values)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(_CORNERS, len(ordered))).astype(int))
    shares = 100 * (places + 1) / len(ordered)
    corners = np.concatenate([ordered[:1], ordered[places]]), np.concatenate([[0.0], shares])
    axes.plot(*corners, color=colour, linewidth=1.6, drawstyle="steps-post", label=label)
    axes.set_ylim(0, 100)


def thinned(count: int) -> tuple[NDArray[np.intp], str]:
    """Return which of some requests are drawn, evenly spread, and the words for a note; all, and none, of few."""
    if count <= MOST_POINTS:
        return np.arange(count), ""
    return np.linspace(0, count - 1, MOST_POINTS).astype(np.intp), f" {MOST_POINTS:,} of {count:,} are drawn."
