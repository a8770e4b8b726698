"""What a run tells its exporter, message by message, each with its length before it."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from loadgen.measure.process_report import ProcessReport

_LENGTH = struct.Struct(">I")


class Begin(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """A run begins: what was told of an earlier one is forgotten."""

    run_id: str
    model: str
    engine: str
    endpoint: str
    """The base URL, without any credentials."""
    run_kind: str
    dataset: str
    reservation: str
    """Without which no figure of it must be read, as ``SIMULATED`` or ``random weights``; empty: there is none."""
    slo: str | None
    """As ``--slo`` has it."""
    rate: float | None
    """Requests/s of an open loop."""
    price_per_gpu_hour: float | None
    at: float
    """Wall time, s."""


class Tick(msgspec.Struct, frozen=True, kw_only=True, tag="tick"):
    """How things are now."""

    at: float
    """Wall time, s."""
    state: str
    users: int | None
    """That make requests at a time; None in an open loop."""
    step: int | None
    verdict: str
    checks: dict[str, str]
    """What each of the verdict's checks says."""
    workers: int
    lost: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """A run is over."""

    verdict: str
    checks: dict[str, str]


Message = Begin | ProcessReport | Tick | End


def pack(message: Message) -> bytes:
    """Encode a message."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


def unpack(stream: BinaryIO) -> Iterator[Message]:
    """Decode messages until the stream ends; raises msgspec.DecodeError for what is none."""
    decoder = msgspec.msgpack.Decoder(Message)
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        (length,) = _LENGTH.unpack(head)
        yield decoder.decode(stream.read(length))
