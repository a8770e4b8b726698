"""What the truth server says, in vLLM's format: bytes, made once and sent many times."""

import json
from functools import cache
from http import HTTPStatus

MODEL = "simulated"
"""The model's name, if it is given no other."""
_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: simulated\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\nconnection: %s\r\n\r\n"
)
_ENVELOPE = '"id":"chatcmpl-a9aa4a96712c47b4","object":"chat.completion.chunk","created":1795422235,"model":'
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@cache
def models(model: str) -> bytes:
    """Return the list of models."""
    return f'{{"object":"list","data":[{{"id":{json.dumps(model)},"object":"model","owned_by":"simulated"}}]}}'.encode()


def head(*, keep_alive: bool) -> bytes:
    """Return the head of a stream."""
    return _HEAD % (b"keep-alive" if keep_alive else b"close")


def http_chunk(data: bytes) -> bytes:
    """Return one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def role(model: str) -> bytes:
    """Return the chunk that names the role and holds no token."""
    return _event(
        model, '"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]'
    )


@cache
def tokens(model: str, count: int, finish: str | None = None) -> bytes:
    """Return a chunk of so many tokens; the last one carries the finish reason."""
    reason = "null" if finish is None else f'"{finish}"'
    text = " word" * count
    choice = f'{{"index":0,"delta":{{"content":"{text}"}},"logprobs":null,"finish_reason":{reason},"token_ids":null}}'
    return _event(model, f'"choices":[{choice}]')


def usage(model: str, given: int, output: int) -> bytes:
    """Return the chunk with the counts."""
    counts = f'{{"prompt_tokens":{given},"total_tokens":{given + output},"completion_tokens":{output}}}'
    return _event(model, f'"choices":[],"usage":{counts}')


@cache
def done() -> bytes:
    """Return the end mark."""
    return http_chunk(b"data: [DONE]\n\n")


@cache
def error_event() -> bytes:
    """Return an error in mid-stream."""
    return http_chunk(b'data: {"error":{"message":"scripted failure","type":"InternalServerError","code":500}}\n\n')


def answer(status: int, body: bytes, *, keep_alive: bool, kind: str = "application/json") -> bytes:
    """Return a whole answer that is no stream."""
    connection = "keep-alive" if keep_alive else "close"
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    head = f"HTTP/1.1 {status} {phrase}\r\nserver: simulated\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n".encode() + body


def error(status: int, message: str) -> bytes:
    """Return the body of an answer that says what is wrong, as vLLM puts it."""
    return json.dumps({"error": {"message": message, "type": "Error", "param": None, "code": status}}).encode()


def whole(model: str, given: int | None, output: int) -> bytes:
    """Return the body of an answer that was not streamed; without usage if ``given`` is None."""
    message = {"role": "assistant", "content": " word" * output}
    said: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1795422235, "model": model}
    said["choices"] = [{"index": 0, "message": message, "finish_reason": "length"}]
    if given is not None:
        said["usage"] = {"prompt_tokens": given, "total_tokens": given + output, "completion_tokens": output}
    return json.dumps(said).encode()


def _event(model: str, fields: str) -> bytes:
    return http_chunk(f"data: {{{_ENVELOPE}{json.dumps(model)},{fields}}}\n\n".encode())
