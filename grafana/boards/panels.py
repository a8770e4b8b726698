"""Panels as we describe them, and as Grafana's classic model has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from boards.names import names_in

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLOURS = {"p50": "green", "p90": "orange", "p99": "red"}
UNITS = {
    "s": "seconds",
    "none": "a number",
    "percentunit": "a share, shown in percent",
    "bytes": "bytes",
    "Bps": "bytes per second",
    "watt": "watts",
    "hertz": "hertz",
    "celsius": "degrees Celsius",
    "dateTimeAsIso": "time",
    "suffix: req/min": "requests per minute",
    "suffix: tok/s": "tokens per second",
    "suffix: tokens": "tokens",
    "suffix: J/token": "joules per token",
    "suffix: tok/J": "tokens per joule",
    "suffix: J": "joules",
    "suffix: /M tokens": "money per million tokens, in the currency of --price-per-gpu-hour",
}
"""What each unit of Grafana's is, in words."""

NO_ENGINE = "No engine is scraped; scripts/monitor --scrape HOST:PORT adds one"
NO_ENGINE_VALUE = "No engine is scraped (scripts/monitor --scrape HOST:PORT adds one), or it does not export this value"
"""Why panels of engines have no data."""


@dataclass(frozen=True)
class Query:
    """One target. An instant one is for the end of the range that is shown."""

    expr: str
    legend: str = ""
    form: str = "time_series"
    instant: bool = False
    exemplars: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel, without its place."""

    kind: str
    title: str
    about: str
    unit: str
    queries: Sequence[Query]
    width: int = 12
    height: int = 8
    no_value: str = "No data in this time range"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Of the fields, beside unit and noValue."""
    overrides: Sequence[Json] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    transformations: Sequence[Json] = ()


@dataclass(frozen=True)
class Row:
    """A heading, and the panels below it."""

    title: str
    panels: Sequence[Panel]


def graph(title: str, about: str, unit: str, queries: Sequence[Query], **more: Any) -> Panel:  # noqa: ANN401 see Panel
    """Lines over time. ``stacked``: areas that add up; ``shown``: what the legend tells of each."""
    stacked, shown = more.pop("stacked", False), more.pop("shown", ["lastNotNull", "max"])
    custom: Json = {"lineWidth": 1, "fillOpacity": 25 if stacked else 0, "showPoints": "auto", "spanNulls": False}
    custom |= {"stacking": {"mode": "normal" if stacked else "none", "group": "A"}}
    defaults = {"custom": custom, "min": 0, "color": {"mode": "palette-classic"}} | more.pop("defaults", {})
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": shown},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    overrides = [coloured(q.legend, COLOURS[q.legend]) for q in queries if q.legend in COLOURS]
    overrides += more.pop("overrides", [])
    return Panel(
        kind="timeseries",
        title=title,
        about=about,
        unit=unit,
        queries=queries,
        defaults=defaults,
        options=options,
        overrides=overrides,
        **more,
    )


def tile(title: str, about: str, unit: str, queries: Sequence[Query], **more: Any) -> Panel:  # noqa: ANN401 see Panel
    """Figures. ``steps``: colours by value; ``words``: show the name of what there is, not its value."""
    steps, words = more.pop("steps", {None: "text"}), more.pop("words", False)
    named = len(queries) > 1 or any(query.legend for query in queries)
    thresholds = {"mode": "absolute", "steps": [{"color": colour, "value": at} for at, colour in steps.items()]}
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "name" if words else "value_and_name" if named else "value",
        "wideLayout": True,
    }
    defaults = {"thresholds": thresholds, "color": {"mode": "thresholds"}} | more.pop("defaults", {})
    size = {"width": 4, "height": 4} | more
    return Panel(
        kind="stat", title=title, about=about, unit=unit, queries=queries, defaults=defaults, options=options, **size
    )


def heat_map(title: str, about: str, query: Query, **more: Any) -> Panel:  # noqa: ANN401 see Panel
    """Draw the buckets of a histogram over time."""
    options = {
        "calculate": False,
        "cellGap": 0,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "exponent": 0.5, "fill": "blue", "reverse": False},
        "exemplars": {"color": "rgba(255,255,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto", "value": "requests"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
    }
    return Panel(kind="heatmap", title=title, about=about, unit="s", queries=[query], options=options, **more)


def timeline(title: str, about: str, queries: Sequence[Query], **more: Any) -> Panel:  # noqa: ANN401 see Panel
    """States over time: a row each, coloured where it is 1."""
    options = {
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    yes_no = {"0": {"text": "no", "color": "transparent", "index": 0}, "1": {"text": "yes", "index": 1}}
    yes_no["1"]["color"] = more.pop("colour", "blue")
    defaults = {
        "mappings": [{"type": "value", "options": yes_no}],
        "custom": {"lineWidth": 0, "fillOpacity": 70},
        "color": {"mode": "thresholds"},
    }
    return Panel(
        kind="state-timeline",
        title=title,
        about=about,
        unit="none",
        queries=queries,
        defaults=defaults,
        options=options,
        **more,
    )


def table(title: str, about: str, unit: str, queries: Mapping[str, Query], **more: Any) -> Panel:  # noqa: ANN401
    """Draw one row per label set. ``queries`` by their column; ``renamed``: labels by their column, in this order.

    ``without``: columns whose figure says nothing that the labels do not say.
    """
    renamed: Mapping[str, str] = more.pop("renamed")
    without = more.pop("without", ())
    names = list(renamed) + [f"Value #{letter}" for letter in map(letter_of, range(len(queries)))]
    titles = [*renamed.values(), *queries]
    if len(queries) == 1:
        names[-1] = "Value"
    hidden = [name for name, title in zip(names, titles, strict=True) if title in without]
    organized = {
        "excludeByName": dict.fromkeys(["Time", "__name__", "job", *hidden], True),
        "includeByName": {},
        "indexByName": {name: number for number, name in enumerate(names)},
        "renameByName": dict(zip(names, titles, strict=True)),
    }
    options = {"showHeader": True, "cellHeight": "sm", "frameIndex": 0, "sortBy": more.pop("sort", [])}
    return Panel(
        kind="table",
        title=title,
        about=about,
        unit=unit,
        queries=list(queries.values()),
        options=options,
        transformations=[{"id": "merge", "options": {}}, {"id": "organize", "options": organized}],
        defaults={"custom": {"align": "auto", "filterable": True, "cellOptions": {"type": "auto", "wrapText": True}}},
        **more,
    )


def bars(title: str, about: str, unit: str, queries: Sequence[Query], **more: Any) -> Panel:  # noqa: ANN401 see Panel
    """Draw one bar per label set."""
    options = {
        "displayMode": "basic",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "auto",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    }
    defaults = {"min": 0, "color": {"mode": "palette-classic"}}
    return Panel(
        kind="bargauge",
        title=title,
        about=about,
        unit=unit,
        queries=queries,
        options=options,
        defaults=defaults,
        **more,
    )


def coloured(name: str, colour: str) -> Json:
    """Give what is called so always the same colour."""
    value = {"mode": "fixed", "fixedColor": colour}
    return changed(name, {"color": value})


def changed(name: str, properties: Mapping[str, Any]) -> Json:
    """Change properties of the field that is called so."""
    changes = [{"id": key, "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": changes}


def letter_of(number: int) -> str:
    """Return the refId of the query with this number."""
    return chr(ord("A") + number)


def as_json(panel: Panel, number: int, x: int, y: int) -> Json:
    """Return a panel as Grafana has it."""
    made = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": _description(panel),
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "targets": [_target(query, letter_of(i)) for i, query in enumerate(panel.queries)],
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "noValue": panel.no_value, **panel.defaults},
            "overrides": list(panel.overrides),
        },
        "options": dict(panel.options),
    }
    return made | ({"transformations": list(panel.transformations)} if panel.transformations else {})


def _target(query: Query, letter: str) -> Json:
    return {
        "refId": letter,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "format": query.form,
        "instant": query.instant,
        "range": not query.instant,
        "exemplar": query.exemplars,
    }


def _description(panel: Panel) -> str:
    names = dict.fromkeys(name for query in panel.queries for name in names_in(query.expr))
    listed = ", ".join(f"`{name}`" for name in names)
    return f"{panel.about}\n\nFrom {listed}. Unit: {UNITS[panel.unit]}."
