"""The outcome of a request, decided in this one place: from the wire's fault, the HTTP status, and the answer itself.

A success needs an end mark or a finish reason, and at least one token, vector or score.
"""

from loadgen.protocol.completion import Completion
from loadgen.record import Outcome
from loadgen.wire.fault import Fault

FAILED_REASONS = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})
"""Finish reasons by which a server reports that it aborted an answer: ``abort`` of vLLM and SGLang, ``error`` of
OpenRouter."""

_OK = 200
_TOO_MANY = {429, 529}
"""529 is Anthropic's."""
_OF_STATUS_CLASS = {3: Outcome.HTTP_3XX, 4: Outcome.HTTP_4XX, 5: Outcome.HTTP_5XX}
_MAY_BE_COMPLETE = {Outcome.BROKEN_STREAM, Outcome.IDLE_TIMEOUT}
"""Connection faults that can follow a complete answer: some servers never close the connection, others reset it."""

_ITEM = {"tokens": "token", "vectors": "vector", "scores": "score"}


Decision = tuple[Outcome, str | None]
"""An outcome, and the error that the record has."""


def decide(fault: Fault | None, status: int, completion: Completion) -> Decision:
    """Return the outcome of a request and its error, None for a success. The first case that applies decides.

    ``fault``: what the wire saw, None for a complete response; ``status``: of HTTP, 0 where none came.
    """
    failure = _failed_response(fault, status, completion) or _failed_answer(fault, completion)
    return failure or (Outcome.OK, None)


def _failed_response(fault: Fault | None, status: int, completion: Completion) -> Decision | None:
    """Return what is wrong with the response as a whole, whatever its answer says."""
    if status in _TOO_MANY:
        return Outcome.RATE_LIMITED, completion.refusal
    if status not in {0, _OK}:
        return _OF_STATUS_CLASS.get(status // 100, Outcome.BAD_PROTOCOL), completion.refusal
    if completion.unreadable is not None:
        return Outcome.BAD_PROTOCOL, completion.unreadable
    if fault is not None and fault.outcome not in _MAY_BE_COMPLETE:
        return fault.outcome, fault.message
    return None


def _failed_answer(fault: Fault | None, completion: Completion) -> Decision | None:
    """Return what is wrong with the answer, as far as it came."""
    if completion.reported_error is not None:
        return Outcome.BROKEN_STREAM, f"error in the answer: {completion.reported_error}"
    if completion.finish_reason is not None and completion.finish_reason.lower() in FAILED_REASONS:
        return Outcome.BROKEN_STREAM, f"the answer ended with finish_reason {completion.finish_reason!r}"
    if fault is not None and not completion.ended:
        return fault.outcome, fault.message
    if not _has_content(completion):
        return Outcome.EMPTY, f"HTTP 200 without a single {_ITEM[completion.produces]}"
    if completion.streamed and not completion.ended and completion.finish_reason is None:
        return Outcome.BROKEN_STREAM, "the stream ended without a finish reason and without an end mark"
    return None


def _has_content(completion: Completion) -> bool:
    if completion.produces != "tokens":
        return completion.items > 0
    counted = completion.usage.output_tokens if completion.usage else None
    return completion.has_text or bool(counted and completion.finish_reason)
