"""A dashboard of rows of panels: where each is, what can be chosen, and what leads on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from boards.panels import DATASOURCE, Json, Row, as_json

COLUMNS = 24
TAG = "llmload"


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One of ours."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Json]
    since: str = "now-15m"
    refresh: str = "5s"
    annotations: Sequence[Json] = ()


def as_json_of(dashboard: Dashboard) -> Json:
    """Return a dashboard as Grafana has it: the classic model."""
    return {
        "uid": dashboard.uid,
        "id": None,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": dashboard.since, "to": "now"},
        "timepicker": {},
        "refresh": dashboard.refresh,
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "weekStart": "",
        "links": [_LINKS, _RUNS],
        "annotations": {"list": [_BY_HAND, *dashboard.annotations]},
        "templating": {"list": list(dashboard.variables)},
        "panels": list(_placed(dashboard.rows)),
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Yield rows and panels: from left to right, and on the next line where one is full."""
    number, y = 0, 0
    for row in rows:
        number += 1
        heading = {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": []}
        yield heading | {"gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        x, y, height = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            yield as_json(panel, number, x, y)
            x, height = x + panel.width, max(height, panel.height)
        y += height


def source() -> Json:
    """Choose the data source."""
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "skipUrlSync": False,
    }


def of_labels(name: str, label: str, series: str, key: str) -> Json:
    """Choose any of the values that a label has; all of them at first."""
    any_of_them = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return _query(name, label, series, key) | {
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": any_of_them,
        "sort": 1,
    }


def one_of_labels(name: str, label: str, series: str, key: str) -> Json:
    """Choose one of the values that a label has; the last in order at first."""
    return _query(name, label, series, key) | {"multi": False, "includeAll": False, "sort": 2}


def run_variables(*, several: bool = False) -> list[Json]:
    """Choose data source, engine, model and run: what stands left narrows what stands right."""
    of_run, name, label = (of_labels, "runs", "Runs") if several else (one_of_labels, "run_id", "Run")
    return [
        source(),
        of_labels("engine", "Engine", "llmload_run_info", "engine"),
        of_labels("model", "Model", 'llmload_run_info{engine=~"$engine"}', "model"),
        of_run(name, label, 'llmload_run_info{engine=~"$engine", model=~"$model"}', "run_id"),
    ]


def _query(name: str, label: str, series: str, key: str) -> Json:
    asked = f"label_values({series}, {key})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": asked,
        "query": {"qryType": 1, "query": asked, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def event(name: str, colour: str, expr: str, title: str, text: str) -> Json:
    """Mark the times, in ms, that are the values of series."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "5s",
        "useValueForTime": True,
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "run_id",
    }


STEPS = [
    event(
        "Steps",
        "blue",
        'llmload_step_start_timestamp_seconds{run_id=~"$run_id"} * 1000',
        "{{users}} users",
        "From here on; step {{step}} of the records",
    ),
    event(
        "Start of the run",
        "green",
        'llmload_run_start_timestamp_seconds{run_id=~"$run_id"} * 1000',
        "Start",
        "{{run_id}}: {{model}} on {{engine}}",
    ),
]

_LINKS = {
    "title": "Load generator",
    "type": "dashboards",
    "tags": [TAG],
    "asDropdown": False,
    "includeVars": True,
    "keepTime": True,
    "targetBlank": False,
    "icon": "external link",
    "tooltip": "",
    "url": "",
}

_RUNS = {
    "title": "All runs of 7 days",
    "type": "link",
    "tags": [],
    "asDropdown": False,
    "includeVars": False,
    "keepTime": False,
    "targetBlank": False,
    "icon": "dashboard",
    "tooltip": "A list in which each run has a link with its times",
    "url": f"/d/{TAG}-compare-runs/compare-runs?from=now-7d&to=now",
}

_BY_HAND = {
    "name": "Annotations & Alerts",
    "datasource": {"type": "grafana", "uid": "-- Grafana --"},
    "type": "dashboard",
    "builtIn": 1,
    "enable": True,
    "hide": True,
    "iconColor": "rgba(0, 211, 255, 1)",
}
