"""The dashboards as they are in ``grafana/``."""

import json
import re
from typing import Any

import pytest
from conftest import ROOT

GRAFANA = ROOT / "grafana"

Json = dict[str, Any]

DASHBOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))
}

each_dashboard = pytest.mark.parametrize("name", DASHBOARDS)


def panels(board: Json) -> list[Json]:
    """All that show something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def annotations(board: Json) -> list[Json]:
    """Those that come from Prometheus."""
    return [annotation for annotation in board["annotations"]["list"] if "expr" in annotation]


def asking_variables(board: Json) -> list[Json]:
    """Those whose values come from Prometheus."""
    return [variable for variable in board["templating"]["list"] if variable["type"] == "query"]


def names_of(expression: str) -> set[str]:
    """Metrics of ours that it asks for, found in another way than the generator finds them."""
    found = set(re.findall(r"(?<![\w:])(?:(?:llmload|gpu)_\w+|(?:engine|gpu):\w+|up\b|ALERTS\b)", expression))
    found = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found}
    return {name for name in found if not re.search(rf'"/?{name}"', expression)}
