"""Links to a run in Grafana, on the dashboard that ``grafana/`` brings."""

from datetime import datetime
from urllib.parse import urlencode

from loadgen.results.manifest import Manifest

DASHBOARD = "llmload-run"
"""Its uid."""

_AROUND_S = 30.0
"""Shown before the start and after the end of a run."""


def live_link(base: str, run_id: str) -> str:
    """Return where a run can be watched that goes on."""
    return _link(base, run_id, {"from": "now-15m", "to": "now", "refresh": "5s"})


def link(manifest: Manifest) -> str | None:
    """Return where a run that has ended can be seen; None where no Grafana was named."""
    base, ended = manifest.scenario.get("grafana"), manifest.ended
    if not base or ended is None:
        return None
    began_s = manifest.anchor["realtime_ns"] / 1e9 - _AROUND_S
    ended_s = datetime.fromisoformat(ended.at).timestamp() + _AROUND_S
    return _link(base, manifest.run_id, {"from": str(int(began_s * 1000)), "to": str(int(ended_s * 1000))})


def _link(base: str, run_id: str, span: dict[str, str]) -> str:
    query = {"orgId": "1", **span, "var-run_id": run_id, "timezone": "browser"}
    return f"{base.rstrip('/')}/d/{DASHBOARD}/run?{urlencode(query)}"
