"""What is found out before the first request: host, TLS, key, model. Whatever is wrong here is the user's to mend."""

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from loadgen.errors import EndpointError
from loadgen.protocol.client import Client, Settings
from loadgen.record import Outcome
from loadgen.request import Request
from loadgen.wire.fault import WireError
from loadgen.wire.get import Reply, get
from loadgen.wire.waiting import Waiter

TIMEOUT_S = 30.0
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TIMEOUT, _TOO_MANY = 200, 401, 403, 404, 408, 429
_UNAVAILABLE = 503
_MAY_PASS = {_TIMEOUT, _TOO_MANY, _UNAVAILABLE}
"""Statuses that a busy server gives: not the user's mistake, and data once the run has begun."""


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


def find(settings: Settings, model: str | None, waiter: Waiter) -> ServerInfo:
    """Ask for the models; raises EndpointError naming the flag and the way out."""
    reply = _get_models(settings, waiter)
    models = _models_of(reply)
    name = model or _first(models, reply, settings)
    server: dict[str, Any] = {"models": [m.id for m in models]}
    server |= {"server_header": header} if (header := reply.headers.get("server")) else {}
    for listed in models:
        if listed.id == name:
            server |= {"owned_by": listed.owned_by, "max_model_len": listed.max_model_len}
    return ServerInfo(name, server)


def _get_models(settings: Settings, waiter: Waiter) -> Reply:
    try:
        timeout = min(TIMEOUT_S, settings.timeouts.first_byte)
        return get(settings.target, "/v1/models", waiter, timeout=timeout, api_key=settings.api_key)
    except WireError as error:
        raise EndpointError(_unreachable(settings, error)) from None


def _unreachable(settings: Settings, error: WireError) -> str:
    ways_out = {
        Outcome.DNS: "Check the host name.",
        Outcome.REFUSED: "Is the server running, and is the port right?",
        Outcome.CONNECT_TIMEOUT: "Is the server running, and does a firewall stand between?",
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
    if reply.status in {_UNAUTHORIZED, _FORBIDDEN}:
        raise EndpointError(_key_advice(settings, f"HTTP {reply.status}"))
    raise EndpointError(
        f"--model is needed: {settings.target.url}/v1/models names none (HTTP {reply.status}). "
        "Give the name that the server knows its model by."
    )


def try_one(settings: Settings, request: Request, waiter: Waiter) -> None:
    """Make one request; raises EndpointError naming the flag and the way out."""
    record = Client(replace(settings, keep_alive=False), waiter).send(request).record
    if record.http_status in _MAY_PASS:
        return
    match record.outcome:
        case Outcome.HTTP_4XX if record.http_status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise EndpointError(_key_advice(settings, record.error or ""))
        case Outcome.HTTP_4XX if record.http_status == _NOT_FOUND:
            way_out = "Check --model, and the path of --host."
        case Outcome.HTTP_4XX:
            way_out = "Check --model and --engine."
        case Outcome.HTTP_3XX:
            way_out = "Redirections are not followed: give the address that it redirects to as --host."
        case Outcome.HTTP_5XX:
            way_out = "See the server's log."
        case Outcome.BAD_PROTOCOL:
            way_out = "Is it an OpenAI-compatible endpoint? If it has another API, name the engine with --engine."
        case Outcome.REFUSED | Outcome.TLS | Outcome.DNS | Outcome.CONNECT_TIMEOUT:
            way_out = "It answered a moment ago: is it going down?"
        case _:
            return
    raise EndpointError(f"--host {settings.target.url}, model {request.model!r}: {record.error}. {way_out}")


def _key_advice(settings: Settings, message: str) -> str:
    has = "does not accept the key in OPENAI_API_KEY" if settings.api_key else "wants a key: set OPENAI_API_KEY"
    return f"--host {settings.target.url}: the server {has}. It said: {message}"
