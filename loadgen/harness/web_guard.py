"""What the web UI takes from a browser: requests of its own pages, and what its form offers."""

import ipaddress
import json
import logging
import socket
from argparse import Namespace
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import flask
from locust.argument_parser import ui_extra_args_dict
from locust.env import Environment
from locust.web import WebUI
from werkzeug.datastructures import Headers, MultiDict

from loadgen.engines.catalogue import ENGINES
from loadgen.errors import OptionError, UsageError, WorkerLost
from loadgen.harness.session import Session
from loadgen.harness.user_guard import USERS_BELONG_TO_RUN
from loadgen.scenario import flag

logger = logging.getLogger(__name__)

_LOCUSTS_FIELDS = {"user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile"}
_USER_FIELDS = {"user_class_name", "host", "weight", "fixed_count", "tasks"}
_DATASETS = {"lima", "samples"}
_READING = {"GET", "HEAD", "OPTIONS"}
_NAME = "--web-host-display-name"


def add(web_ui: WebUI, session: Session, options: Namespace) -> None:
    """Guard a web UI, and warn if others than this machine's users can reach it."""
    _warn(options)
    names = _names(options)
    given = {"engine": options.engine, "dataset": options.dataset}  # a form's values take their place

    def check() -> flask.Response | None:
        request = flask.request
        if (why := foreign(request.method, request.headers, names)) is not None:
            return flask.Response(f"{why}\n", 403, content_type="text/plain")
        if request.endpoint == "locust.update_user" and (why := _edit_problem(session, request.get_data())):
            return flask.Response(f"{why}\n", 403, content_type="text/plain")
        return _checked_start(session, given) if request.endpoint == "locust.swarm" else None

    assert web_ui.app is not None
    web_ui.app.before_request(check)


def foreign(method: str, headers: Headers, names: set[str]) -> str | None:
    """Return why a request is not one of the web UI's own pages or of a program, None if it may be one.

    A page of another site can make a browser send requests here (CSRF), and it can have its own host name lead here
    (DNS rebinding). A browser reports both: the one in ``Origin``, the other in ``Host``. ``names`` are the host names
    by which the web UI is known; behind a proxy, that in ``Origin`` may be one of them.
    """
    host = headers.get("Host", "")
    if not _is_address(_name(host)) and _name(host) not in names:
        return f"The host {host!r} is not known here: start with {_NAME} {host}, if the web UI is reached by that name."
    origin = headers.get("Origin")
    if origin is None and method not in _READING:
        origin = headers.get("Referer")
        if headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
            origin = origin or "another site"
    if origin is None or _authority(origin) == host.lower() or _name(_authority(origin)) in names - _LOOPBACK:
        return None
    return f"This is a request of {origin!r}, not of a page of {host!r}; behind a proxy start with {_NAME} NAME."


_LOOPBACK = {"localhost"}


def _names(options: Namespace) -> set[str]:
    """Return the host names by which the web UI may be reached; addresses are not among them."""
    shown = options.web_host_display_name or ""
    named = _authority(shown) if "://" in shown else shown
    own = {socket.gethostname(), socket.getfqdn()}
    return {name.lower() for name in (_name(named), options.web_host, *own) if name} | _LOOPBACK


def _is_address(name: str) -> bool:
    """Whether it is an address: no other site's name leads there."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _authority(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _name(authority: str) -> str:
    """Return the host name of a ``Host`` header."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


def _warn(options: Namespace) -> None:
    host = options.web_host
    if host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback):
        return
    if not options.web_login:
        reach = f"port {options.web_port} of this machine" if host in {"", "*"} else f"{host}:{options.web_port}"
        logger.warning(
            "Everybody who can reach %s can start and stop runs, with our API key: there is no --web-login. Leave out "
            "--web-host to admit this machine only.",
            reach,
        )


def _edit_problem(session: Session, data: bytes) -> str | None:
    """Return what is wrong with an edit of a user class, None if nothing is; Locust would set any attribute."""
    try:
        edit: Any = json.loads(data)
        user_class = (session.environment.available_user_classes or {})[edit["user_class_name"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return "There is no such user class."
    if not session.idle:
        return "The user classes of a run cannot be changed while it goes on."
    if more := set(edit) - _USER_FIELDS:
        return f"{', '.join(sorted(more))}: not to be changed here."
    if edit.get("host") not in {None, "", user_class.host}:
        return "host: change the one of the run, in the form."
    counts = (edit.get("weight", 1), edit.get("fixed_count", 0))
    tasks = edit.get("tasks", [])
    if not all(isinstance(count, int) and count >= 0 for count in counts) or not isinstance(tasks, list):
        return "weight and fixed_count are numbers, tasks a list of names."
    return None


def _checked_start(session: Session, given: Mapping[str, str]) -> flask.Response | None:
    """Look at a start before Locust acts on it, so that a mistake is shown in the form."""
    try:
        check_form(flask.request.form, given)
        if session.ending:
            raise OptionError("the last run is still ending: start again in a moment.")
        if not session.idle:
            raise OptionError(USERS_BELONG_TO_RUN)
        if session.options.class_picker:
            _choose_classes(session.environment, flask.request.form)
        session.prepare(flask.request.form)
    except (UsageError, WorkerLost) as error:
        return flask.jsonify({"success": False, "message": str(error), "host": session.environment.host})
    return None


def _choose_classes(environment: Environment, form: MultiDict[str, str]) -> None:
    """Choose the classes that were picked in the form, as Locust will do after the check."""
    names, available = form.getlist("user_classes"), environment.available_user_classes or {}
    if unknown := [name for name in names if name not in available]:
        raise OptionError(f"There is no user class {', '.join(unknown)}: pick from {', '.join(available)}.")
    environment.user_classes = [c for name, c in available.items() if not names or name in names]  # type: ignore[misc]
    shapes = environment.available_shape_classes or {}
    environment.shape_class = shapes.get(form.get("shape_class", ""))


def check_form(form: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Raise OptionError for what the form does not offer, and for names of code and files.

    ``given`` has the engine and the data set of the command line, which may be files.
    """
    for name in set(form) - _LOCUSTS_FIELDS - set(ui_extra_args_dict()):
        raise OptionError(f"{flag(name)}: not to be set in the form; give it on the command line.")
    for name, known in (("engine", set(ENGINES)), ("dataset", _DATASETS)):
        value = form.get(name) or given[name]
        if value not in known and value != given[name]:
            raise OptionError(
                f"{flag(name)} {value}: in the form it is one of {', '.join(sorted(known))}; name a file on the "
                "command line."
            )
