"""A run in Grafana: links to it on the dashboard that ``grafana/`` brings, and annotations for any dashboard."""

from datetime import datetime
from html import escape
from typing import Any
from urllib.parse import urlencode

from loadgen.clock import MS
from loadgen.printable import escaped
from loadgen.results.manifest import Manifest
from loadgen.results.text import subject_of_manifest

DASHBOARD = "llmload-run"
"""Its uid."""

_AROUND_S = 30.0
"""Shown before the start and after the end of a run."""


def live_link(manifest: Manifest) -> str | None:
    """Return the link to a run that is still going on, from its start to now; None if no Grafana was named."""
    base = manifest.scenario.get("grafana")
    return _link(base, manifest, {"to": "now", "refresh": "5s"}) if base else None


def link(manifest: Manifest) -> str | None:
    """Return the link to a run that has ended, from its start to its end; None if no Grafana was named."""
    base, ended = manifest.scenario.get("grafana"), manifest.ended
    if not base or ended is None:
        return None
    ended_s = datetime.fromisoformat(ended.at).timestamp() + _AROUND_S
    return _link(base, manifest, {"to": str(int(ended_s * 1000))})


def annotations(manifest: Manifest, verdict: str) -> list[dict[str, Any]]:
    """Return a region for a run that has ended, and one for each step, as Grafana's HTTP API takes them.

    Times are in ms of Unix time; texts are HTML. Empty where no Grafana was named.
    """
    url, ended = link(manifest), manifest.ended
    if url is None or ended is None:
        return []
    subject = subject_of_manifest(manifest)
    said = escape(escaped(", ".join([subject.title, *subject.reservations, verdict])))
    text = f'<a href="{escape(url)}">{escape(manifest.run_id)}</a>: {said}'
    whole = _ms(manifest, manifest.anchor["monotonic_ns"]), int(datetime.fromisoformat(ended.at).timestamp() * 1000)
    found = [_region(manifest, "run", whole, text)]
    for step in manifest.steps:
        if step.window_ns is not None:
            span = _ms(manifest, step.began_ns), _ms(manifest, step.window_ns[1])
            users = f"{step.concurrency} user" + "s" * (step.concurrency != 1)
            found.append(_region(manifest, "step", span, f"Step {step.number + 1}: {users}"))
    return found


def _region(manifest: Manifest, kind: str, span_ms: tuple[int, int], text: str) -> dict[str, Any]:
    tags = ["llmload", f"llmload-{kind}", f"run:{manifest.run_id}"]
    return {"time": span_ms[0], "timeEnd": span_ms[1], "tags": tags, "text": text}


def _ms(manifest: Manifest, monotonic_ns: int) -> int:
    anchor = manifest.anchor
    return (anchor["realtime_ns"] + monotonic_ns - anchor["monotonic_ns"]) // MS


def _link(base: str, manifest: Manifest, until: dict[str, str]) -> str:
    began_s = manifest.anchor["realtime_ns"] / 1e9 - _AROUND_S
    span = {"from": str(int(began_s * 1000)), **until}
    query = {"orgId": "1", **span, "var-run_id": manifest.run_id, "timezone": "browser"}
    return f"{base.rstrip('/')}/d/{DASHBOARD}/run?{urlencode(query)}"
