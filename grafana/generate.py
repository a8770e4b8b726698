"""Writes the dashboards and Prometheus's configurations; with --check it tells which of them are not up to date."""
# ruff: noqa: INP001, T201  a script

import argparse
import json
import sys
from pathlib import Path

from boards import compare_runs, engine_and_gpu, instrument, run, scraping
from boards.dashboard import as_json_of
from boards.names import METRICS, names_in
from boards.panels import Json

__all__ = ["METRICS", "dashboards", "expressions", "files", "main"]

HERE = Path(__file__).resolve().parent

PROMETHEUS = HERE / "prometheus"


def dashboards() -> dict[str, Json]:
    """Return each dashboard by the name of its file."""
    boards = {
        "run": run.DASHBOARD,
        "engine-and-gpu": engine_and_gpu.DASHBOARD,
        "instrument": instrument.DASHBOARD,
        "compare-runs": compare_runs.DASHBOARD,
    }
    return {name: as_json_of(board) for name, board in boards.items()}


def expressions(dashboard: Json) -> list[str]:
    """Return all PromQL of a dashboard: of panels and of annotations."""
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [asked["expr"] for asked in (*targets, *dashboard["annotations"]["list"]) if "expr" in asked]


def files() -> dict[Path, str]:
    """Return what is written, and where; raises ValueError where a query asks for what nobody tells."""
    made = {}
    for name, dashboard in dashboards().items():
        for expression in expressions(dashboard):
            if unknown := [metric for metric in names_in(expression) if metric not in METRICS]:
                raise ValueError(f"{name}: nobody tells {', '.join(unknown)}, which {expression!r} asks for")
        made[HERE / "dashboards" / f"{name}.json"] = json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n"
    about = "For a Prometheus of this machine, as scripts/monitor starts it."
    made[PROMETHEUS / "prometheus.yml"] = scraping.prometheus_yml("127.0.0.1", about, {})
    about = "For a Prometheus in a container, as compose.yml starts it."
    own = {"dcgm": "dcgm-exporter:9400"}
    made[PROMETHEUS / "prometheus.compose.yml"] = scraping.prometheus_yml("host.docker.internal", about, own)
    return made


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file would differ")
    check = parser.parse_args().check
    differ = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    for path in differ:
        name = path.relative_to(HERE.parent)
        if check:
            print(f"{name} differs from what grafana/generate.py makes; run it")
        else:
            path.write_text(files()[path])
            print(f"{name} written")
    return int(check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
