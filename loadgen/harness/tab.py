"""The page of a run in Locust's web UI, and the LLM tab of Locust's own page: a table, and below it the page."""

import json
from pathlib import PurePath
from typing import Any

import flask
from locust.runners import STATE_RUNNING, STATE_SPAWNING
from locust.web import WebUI

from loadgen.harness.session import Session
from loadgen.live import page, result_files
from loadgen.live.rows import rows
from loadgen.printable import escaped_all

KEY, TITLE = "llm", "LLM"
_COLUMNS = {"metric": "Metric", "value": "Value", "p50": "p50", "p90": "p90", "p99": "p99"}

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_ADDED = (
    '<link rel="stylesheet" href="llm/assets/form.css">'
    f'<script type="module" id="llm-tab" data-title="{TITLE}" src="llm/assets/tab.js"></script>'
)
"""To Locust's page."""


def add(web_ui: WebUI, session: Session) -> None:
    """Add the page and the tab to a web UI."""
    app = web_ui.app
    assert app is not None
    web_ui.template_args.update(
        extended_tabs=[{"title": TITLE, "key": KEY}],
        extended_tables=[{"key": KEY, "structure": [{"key": k, "title": title} for k, title in _COLUMNS.items()]}],
    )

    def data() -> Any:  # noqa: ANN401 whatever JSON can hold
        return escaped_all(session.displays.live_data())

    def file(run_id: str, name: str) -> flask.Response:
        path = session.displays.file(run_id, name)
        return _unknown() if path is None else _result_file(path)

    base = session.options.web_base_path or ""
    for rule, endpoint, view in (
        ("/llm", "llm", lambda: _asset(page.PAGE)),
        ("/llm/assets/<name>", "llm_asset", _asset),
        ("/llm/data", "llm_data", lambda: flask.jsonify(data())),
        ("/llm/runs/<run_id>/<name>", "llm_file", file),
    ):
        app.add_url_rule(base + rule, endpoint, web_ui.auth_required_if_enabled(view))

    def extend(response: flask.Response) -> flask.Response:
        """Add our rows to the figures that Locust's page asks for, and our script and styles to the page."""
        if flask.request.endpoint == "locust.request_stats" and response.is_json:
            content: dict[str, Any] = response.get_json()
            content["extended_stats"] = [{"key": KEY, "data": rows(data())}]
            if session.controller is not None and content["state"] != STATE_SPAWNING:
                content["state"] = STATE_RUNNING  # Locust's page would not ask again, and never show the result
            response.set_data(json.dumps(content))
        elif flask.request.endpoint == "locust.index" and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", _ADDED + "</body>"))
        return response

    app.after_request(extend)


def _asset(name: str) -> flask.Response:
    """Serve a file of the page."""
    if name not in page.ASSETS:
        return _unknown()
    return _guarded(flask.Response(page.asset(name), mimetype=_MEDIA_TYPES[PurePath(name).suffix]), page.POLICY)


def _unknown() -> flask.Response:
    """Return a response; with --web-login Locust would take an exception for a failed login."""
    return flask.Response("There is no such file.\n", 404, content_type="text/plain")


def _result_file(path: PurePath) -> flask.Response:
    """Serve a file of a run. Records are for programs: they may be large."""
    media_type = result_files.MEDIA_TYPES[path.suffix]
    response = flask.send_file(path, media_type, as_attachment=path.suffix == ".jsonl")
    return _guarded(response, result_files.POLICY)


def _guarded(response: flask.Response, policy: str) -> flask.Response:
    """Let a browser take a file for what it is, ask for it each time, and run nothing that is not ours."""
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store"
    return response
