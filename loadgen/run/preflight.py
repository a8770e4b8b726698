"""What is found out before the first request: host, TLS, key, model. Whatever is wrong here is the user's to mend."""

import logging
import re
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from loadgen.clock import SECOND, Ns, now
from loadgen.errors import EndpointError
from loadgen.measure.causes import CLIENT_LIMIT_ADVICE
from loadgen.protocol.client import Client, Settings
from loadgen.protocol.errors import error_message
from loadgen.record import Outcome, RequestRecord
from loadgen.request import Request
from loadgen.run.refusals import Accepted, accepted_body
from loadgen.wire.fault import WireError
from loadgen.wire.get import Reply, get
from loadgen.wire.kept import LONGEST_ERROR, kept
from loadgen.wire.response_reader import deadline
from loadgen.wire.waiting import Waiter

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TIMEOUT, _TOO_MANY = 200, 401, 403, 404, 408, 429
_UNAVAILABLE = 503
_MAY_PASS = {_TIMEOUT, _TOO_MANY, _UNAVAILABLE}
"""Statuses that a busy server gives: not the user's mistake, and data once the run has begun."""

_LOADING = re.compile("load|start|ready|initiali|warm", re.IGNORECASE)
"""In the words of a server that answers 503 because it cannot serve yet, not because it is busy."""

_READY_POLL_S = 1.0
_SILENT = {Outcome.FIRST_BYTE_TIMEOUT, Outcome.IDLE_TIMEOUT, Outcome.TOTAL_TIMEOUT}
_NOT_THERE_YET = {Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.BROKEN_STREAM}
"""Faults of a server that is being started: its port is closed, or what forwards to it resets connections."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server is."""

    model: str
    server: dict[str, Any]


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class Readiness:
    """Waits for a server that is still loading, up to a time that all questions share."""

    def __init__(self, seconds: float, waiter: Waiter) -> None:
        self._due, self._waiter = deadline(now(), seconds), waiter
        self._seconds = seconds
        self._is_logged = False

    def wait(self, why: str) -> bool:
        """Wait a moment, and return True; or return False where the time is up."""
        left = self._due - now()
        if left <= 0:
            return False
        if not self._is_logged:
            logger.info("Waiting up to %g s for the server: %s", self._seconds, why)
            self._is_logged = True
        self._waiter.sleep_until(Ns(now() + min(left, int(_READY_POLL_S * SECOND))))
        return True


def find(settings: Settings, model: str | None, waiter: Waiter, readiness: Readiness) -> ServerInfo:
    """Ask for the models; raises EndpointError naming the flag and the way out."""
    reply = _get_models(settings, waiter, readiness)
    models = _models_of(reply)
    name = model or _first(models, reply, settings)
    server: dict[str, Any] = {"models": [m.id for m in models]}
    server |= {"server_header": header} if (header := reply.headers.get("server")) else {}
    for listed in models:
        if listed.id == name:
            server |= {"owned_by": listed.owned_by, "max_model_len": listed.max_model_len}
    return ServerInfo(name, server)


def _get_models(settings: Settings, waiter: Waiter, readiness: Readiness) -> Reply:
    timeout = min(TIMEOUT_S, settings.timeouts.first_byte)
    path = settings.target.path_of("/v1/models")
    while True:
        try:
            reply = get(
                settings.target, path, waiter, timeout=timeout, headers=settings.headers, secrets=settings.secrets
            )
        except WireError as error:
            if error.outcome in _NOT_THERE_YET | _SILENT and readiness.wait(error.message):
                continue
            if error.outcome in _SILENT:
                raise EndpointError(_silent(settings, path, timeout)) from None
            raise EndpointError(_unreachable(settings, error)) from None
        if reply.status != _UNAVAILABLE or not readiness.wait(_said(reply)):
            return reply


def _said(reply: Reply) -> str:
    return f"HTTP {reply.status}: {kept(error_message(reply.body), (), LONGEST_ERROR) or 'no message'}"


def _silent(settings: Settings, path: str, timeout: float) -> str:
    return (
        f"--host {settings.target.url}: connected, but no answer to GET {path} within {timeout:g} s. If the server is "
        "still starting, give --wait-ready 600; else see its log."
    )


def _unreachable(settings: Settings, error: WireError) -> str:
    ways_out = {
        Outcome.DNS: "Check the host name.",
        Outcome.REFUSED: "Is the server running, and is the port right?",
        Outcome.CONNECT_TIMEOUT: "Is the server running, and does a firewall stand between?",
        Outcome.CLIENT_LIMIT: CLIENT_LIMIT_ADVICE,
        Outcome.TLS: "If the server speaks plain HTTP, write http://."
        if "WRONG_VERSION" in error.message
        else "Name its authority's certificate in SSL_CERT_FILE, or give --insecure.",
        Outcome.BAD_PROTOCOL: "That port does not speak HTTP; if it speaks TLS, write https://.",
    }
    way_out = ways_out.get(error.outcome, "Does that port speak HTTP, or TLS (https://)?")
    option = settings.limit_options.get(error.outcome)
    limit = f" ({option})" if option else ""
    return f"--host {settings.target.url}: {error.message}{limit}. {way_out}"


def _models_of(reply: Reply) -> list[_Model]:
    """Return what the server lists; some list nothing, or fail at it (transformers serve)."""
    if reply.status != _OK:
        return []
    try:
        return msgspec.json.decode(reply.body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _first(models: list[_Model], reply: Reply, settings: Settings) -> str:
    if models:
        return models[0].id
    if reply.status == _UNAUTHORIZED:
        raise EndpointError(_key_advice(settings, _said(reply)))
    if reply.status == _UNAVAILABLE:
        raise EndpointError(_not_ready(settings, _said(reply)))
    if reply.status == _FORBIDDEN:
        raise EndpointError(f"--host {settings.target.url}: {_said(reply)}. {_sent_key(settings)}")
    raise EndpointError(
        f"--model is needed: {settings.target.origin}{settings.target.path_of('/v1/models')} names none "
        f"(HTTP {reply.status}). Give the name that the server knows its model by."
    )


def try_one(
    settings: Settings, request: Request, waiter: Waiter, readiness: Readiness, *, may_rename_limit: bool
) -> Accepted:
    """Make one request; return it as the server accepts it. Raises EndpointError naming the flag and the way out."""

    def send(changed: Settings) -> RequestRecord:
        while True:
            record = Client(replace(changed, keep_alive=False), waiter).send(request).record
            is_loading = record.http_status == _UNAVAILABLE or record.outcome in _NOT_THERE_YET
            if not is_loading or not readiness.wait(record.error or ""):
                return record

    accepted = accepted_body(settings, request, send, may_rename_limit=may_rename_limit)
    _check_first(settings, request, accepted.record)
    return accepted


def _check_first(settings: Settings, request: Request, record: RequestRecord) -> None:
    """Raise EndpointError where the first answer is one that no other would differ from."""
    status, said = record.http_status, record.error or ""
    if status == _UNAVAILABLE and _LOADING.search(said):
        raise EndpointError(_not_ready(settings, said))
    if status == _UNAUTHORIZED:
        raise EndpointError(_key_advice(settings, said))
    path = settings.target.path_of(settings.path(stream=request.stream))
    ways_out = {
        _FORBIDDEN: _sent_key(settings),
        _NOT_FOUND: f"Asked was POST {path}: check --model, and the path of --host or --endpoint.",
    }
    way_out = ways_out.get(status or 0) or _WAYS_OUT.get(record.outcome)
    if way_out is not None and status not in _MAY_PASS:
        raise EndpointError(f"--host {settings.target.url}, model {request.model!r}: {said}. {way_out}")


_GOING_DOWN = "It answered a moment ago: is it going down?"
_WAYS_OUT = {
    Outcome.HTTP_4XX: "Check --model and --engine.",
    Outcome.HTTP_3XX: "Redirections are not followed: give the address that it redirects to as --host.",
    Outcome.HTTP_5XX: "See the server's log.",
    Outcome.BAD_PROTOCOL: "Is it an OpenAI-compatible endpoint? If it has another API, name the engine with --engine.",
    Outcome.CLIENT_LIMIT: CLIENT_LIMIT_ADVICE,
    Outcome.REFUSED: _GOING_DOWN,
    Outcome.TLS: _GOING_DOWN,
    Outcome.DNS: _GOING_DOWN,
    Outcome.CONNECT_TIMEOUT: _GOING_DOWN,
}
"""What to do about the first answer, by its outcome; none of those outcomes that a run goes on with."""


def _not_ready(settings: Settings, said: str) -> str:
    return (
        f"--host {settings.target.url} is not ready: it answers {said}. Start again then, or give --wait-ready 600 to "
        "wait for up to 600 s."
    )


def _key_advice(settings: Settings, message: str) -> str:
    has = "does not accept the key in OPENAI_API_KEY" if settings.has_key else "wants a key: set OPENAI_API_KEY"
    return f"--host {settings.target.url}: the server {has}. It said: {message}"


def _sent_key(settings: Settings) -> str:
    """Say whether a key was sent: a refusal may be about its rights, or of something before the server."""
    return "A key was sent." if settings.has_key else "No key was sent: OPENAI_API_KEY is not set."
