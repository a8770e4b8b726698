"""The LLM tab of Locust's web UI: a page of its own with charts, and a table in Locust's page."""

import json
from typing import Any

import flask
from locust.web import WebUI

from loadgen.harness.session import Session
from loadgen.live.page import page
from loadgen.live.rows import rows
from loadgen.printable import escaped_all

KEY = "llm"
_COLUMNS = {"name": "Metric", "now": "Now", "p50": "p50", "p90": "p90", "p99": "p99"}


def add(web_ui: WebUI, session: Session) -> None:
    """Add the tab to a web UI."""
    app = web_ui.app
    assert app is not None
    web_ui.template_args.update(
        extended_tabs=[{"title": "LLM", "key": KEY}],
        extended_tables=[{"key": KEY, "structure": [{"key": k, "title": title} for k, title in _COLUMNS.items()]}],
    )

    def charts() -> flask.Response:
        return flask.Response(page(), content_type="text/html; charset=utf-8")

    def data() -> flask.Response:
        return flask.jsonify(escaped_all(session.displays.live_data()))

    base = session.options.web_base_path or ""
    app.add_url_rule(f"{base}/llm", "llm", web_ui.auth_required_if_enabled(charts))
    app.add_url_rule(f"{base}/llm/data", "llm_data", web_ui.auth_required_if_enabled(data))

    def extend(response: flask.Response) -> flask.Response:
        """Put our rows into what Locust's page asks for, and a link to the charts into the page."""
        if flask.request.endpoint == "locust.request_stats" and response.is_json:
            content: dict[str, Any] = response.get_json()
            content["extended_stats"] = [{"key": KEY, "data": rows(escaped_all(session.displays.live_data()))}]
            response.set_data(json.dumps(content))
        elif flask.request.endpoint == "locust.index" and response.mimetype == "text/html":
            response.set_data(response.get_data(as_text=True).replace("</body>", _LINK + "</body>"))
        return response

    app.after_request(extend)


_LINK = (
    '<a href="llm" style="position:fixed;left:1.2rem;bottom:1.2rem;z-index:2000;padding:.55rem .9rem;'
    "border-radius:.4rem;background:#15803d;color:#fff;font:600 .9rem system-ui,sans-serif;text-decoration:none;"
    'box-shadow:0 1px 4px #0006">LLM charts</a>'
)
