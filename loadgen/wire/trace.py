"""W3C Trace Context (https://www.w3.org/TR/trace-context/): identifies our requests in an engine's traces."""

from hashlib import blake2b

_TRACE, _SPAN = 16, 8
"""Bytes of the two ids."""

_SAMPLED = "01"


def trace_id(request_id: str) -> str:
    """Return a request's trace id, 32 hexadecimal digits; it follows from the request's own."""
    return _digest(request_id)[:_TRACE].hex()


def trace_headers(request_id: str) -> dict[str, str]:
    """Return the headers by which a server's logs and traces name a request."""
    return {"x-request-id": request_id, "traceparent": traceparent(request_id)}


def traceparent(request_id: str) -> str:
    """Return the value of the header ``traceparent`` of a request."""
    digest = _digest(request_id)
    return f"00-{digest[:_TRACE].hex()}-{digest[_TRACE:].hex()}-{_SAMPLED}"


def _digest(request_id: str) -> bytes:
    return blake2b(request_id.encode(), digest_size=_TRACE + _SPAN).digest()
