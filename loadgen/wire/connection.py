"""One connection: a non-blocking socket whose reads carry the kernel's receive time, with TLS where the URL says so."""

import _socket
import errno
import os
import re
import socket
import ssl
import sys
from contextlib import suppress

from loadgen.clock import MS, SECOND, Ns, now, realtime_offset
from loadgen.record import Outcome
from loadgen.wire.fault import Fault, WireError
from loadgen.wire.http1 import head_bytes
from loadgen.wire.kept import described
from loadgen.wire.proxy import LONGEST_REPLY, Proxy
from loadgen.wire.response_reader import ResponseReader, Timeouts
from loadgen.wire.target import Target
from loadgen.wire.transcript import Transcript
from loadgen.wire.waiting import TokenMark, Waiter

SO_TIMESTAMPNS = 35
"""Linux ``asm-generic/socket.h``: receive times as control messages of the same number."""

FIRST_TRIES_S = 2.0
"""Longest time for one address of a host that has several; the last address gets the remaining time. A lost SYN is sent
again after 1 s (RFC 6298)."""

_CONNECTED = re.compile(rb"HTTP/1\.[01] 2[0-9][0-9]\b")
"""Status line of a proxy that has opened a tunnel (RFC 9110, 9.3.6)."""

_HANDSHAKE_BYTES = 16_384
_PLAINTEXT_BYTES = 65_536

EARLY = Fault(Outcome.BAD_PROTOCOL, "the server answered before it was asked")


class Connection:
    """One TCP connection. Not opened before :meth:`open`; every method may raise WireError.

    The raw socket type is used, so that nothing that patches :mod:`socket` comes between the kernel and the stamp.
    """

    def __init__(self, target: Target, waiter: Waiter) -> None:
        self.target = target
        self._waiter = waiter
        self._socket: _socket.socket | None = None
        self._tls: _Tls | None = None
        self._offset = 0
        self._sent_at = Ns(0)

    def open(self, deadline: Ns) -> None:
        """Resolve, connect, have a proxy open a tunnel, and shake hands."""
        addresses = self._resolve(deadline)
        for number, (family, address) in enumerate(addresses):
            left = len(addresses) - number
            share = min((deadline - now()) // left, int(FIRST_TRIES_S * SECOND)) if left > 1 else deadline - now()
            try:
                self._connect(family, address, Ns(now() + share))
                break
            except WireError:
                self.close()
                if left == 1:
                    raise
        if number:  # the next request need not wait for those that did not answer
            self._waiter.prefer(*self._peer, (family, address))
        if self.target.tls is not None:
            if self.target.proxy is not None:
                self._open_tunnel(self.target.proxy, deadline)
            self._tls = _Tls(self.target.tls, self.target.host)
            self._shake_hands(deadline)

    @property
    def idle(self) -> bool:
        """Whether a request may be sent: the connection is open, and nothing has come that nobody asked for."""
        assert self._socket is not None
        try:
            self._socket.recv(1, _socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close it, whatever state it is in."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, data: bytes, deadline: Ns) -> Ns:
        """Send all of ``data``; return the time just before the send call of its last byte."""
        self._offset = realtime_offset()
        self._sent_at = self._send_raw(self._tls.encrypt(data) if self._tls else data, deadline)
        return self._sent_at

    def check_silence(self) -> Ns:
        """Return a time at which the server had sent nothing yet; raises WireError where it has before it is asked."""
        assert self._socket is not None
        at = now()
        with suppress(OSError):  # nothing has come, or the connection is gone, which sending will show
            if self._tls is None:
                if self._socket.recv(1, _socket.MSG_PEEK):
                    raise WireError.of(EARLY)
            elif data := self._socket.recv(_HANDSHAKE_BYTES):  # session tickets come early, and rightly
                if self._tls.decrypt(data):
                    raise WireError.of(EARLY)
                if self._tls.fault is not None:
                    raise WireError(Outcome.TLS, self._tls.fault)
        return at

    def receive(
        self,
        transcript: Transcript,
        timeouts: Timeouts,
        has_token: TokenMark | None,
        shows_token: TokenMark | None = None,
    ) -> None:
        """Receive a response to its end. ``has_token`` finds a token in a part of a stream; None for other answers.

        From the first read on in which ``shows_token`` finds a whole event with a token, a stream is drained lazily, in
        large reads. Over TLS it is not, as a token cannot be found in ciphertext.
        """
        assert self._socket is not None
        reader = ResponseReader(self._socket, self._tls, transcript, timeouts, self._sent_at, has_token)
        reader.lazy_mark = shows_token if self._tls is None else None
        self._waiter.receive(reader)
        if reader.bug is not None:
            raise reader.bug
        reader.reset()
        transcript.offset = None if self._clock_stepped() else self._offset
        if reader.ended is not None:
            raise WireError.of(reader.ended)

    @property
    def _peer(self) -> tuple[str, int]:
        """Host and port that is connected to."""
        peer = self.target.proxy or self.target
        return peer.host, peer.port

    def _open_tunnel(self, proxy: Proxy, deadline: Ns) -> None:
        """Ask a proxy to connect to the target (RFC 9110, 9.3.6)."""
        where = f"{self.target.host}:{self.target.port}"
        headers = {"Host": where, "User-Agent": "loadgen"}
        if proxy.authorization is not None:
            headers["Proxy-Authorization"] = proxy.authorization
        self._send_raw(head_bytes("CONNECT", where, headers) + b"\r\n", deadline, timeout=Outcome.CONNECT_TIMEOUT)
        reply = b""
        while b"\r\n\r\n" not in reply:
            data = self._read_handshake(deadline)
            if data is None:
                raise WireError(Outcome.CONNECT_TIMEOUT, f"the proxy {proxy.address} took too long to reach {where}")
            if not data or len(reply) > LONGEST_REPLY:
                raise WireError(Outcome.REFUSED, f"the proxy {proxy.address} did not answer CONNECT {where}")
            reply += data
        status_line = reply.partition(b"\r\n")[0]
        if not _CONNECTED.match(status_line):
            said = described(status_line, "")
            raise WireError(Outcome.REFUSED, f"the proxy {proxy.address} does not connect to {where}: {said:.200}")

    def _clock_stepped(self) -> bool:
        """Whether the realtime clock was set since the last request was sent: then its stamps cannot be mapped."""
        return abs(realtime_offset() - self._offset) > MS

    def _resolve(self, deadline: Ns) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        host, port = self._peer
        try:
            return self._waiter.resolve(host, port, deadline)
        except TimeoutError:
            raise WireError(Outcome.CONNECT_TIMEOUT, f"looking up {host} took too long") from None
        except socket.gaierror as error:
            raise WireError(Outcome.DNS, f"cannot resolve {host}: {error.strerror}") from None
        except OSError as error:
            raise _no_connection(error) from None
        except UnicodeError:
            raise WireError(Outcome.DNS, f"cannot resolve {host}: not a host name") from None

    def _connect(self, family: socket.AddressFamily, address: tuple[str, int], deadline: Ns) -> None:
        try:
            self._socket = sock = new_socket(family)
        except OSError as failed:
            raise _no_connection(failed) from None
        error = sock.connect_ex(address)
        if error == errno.EINPROGRESS:  # on this machine the connection is there already, which a second call tells
            error = sock.connect_ex(address)
        if error == errno.EALREADY:
            if not self._waiter.writable(sock.fileno(), deadline):
                where = f"{address[0]}:{address[1]}"
                raise WireError(Outcome.CONNECT_TIMEOUT, f"no connection to {where} in time")
            error = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if error == errno.EADDRNOTAVAIL:
            where = f"{address[0]}:{address[1]}"
            raise WireError(Outcome.CLIENT_LIMIT, f"no address or port is left here to reach {where} from")
        if error not in {0, errno.EISCONN}:
            raise WireError(Outcome.REFUSED, f"{address[0]}:{address[1]}: {os.strerror(error).lower()}")

    def _shake_hands(self, deadline: Ns) -> None:
        assert self._tls is not None
        try:
            while not self._tls.shake_hands():
                self._send_raw(self._tls.outgoing(), deadline, timeout=Outcome.CONNECT_TIMEOUT)
                data = self._read_handshake(deadline)
                if data is None:
                    raise WireError(Outcome.CONNECT_TIMEOUT, "the TLS handshake took too long")
                if not data:
                    raise WireError(Outcome.TLS, "the server closed the connection during the TLS handshake")
                self._tls.feed(data)
            self._send_raw(self._tls.outgoing(), deadline, timeout=Outcome.CONNECT_TIMEOUT)
        except ssl.SSLError as error:
            raise WireError(Outcome.TLS, _reason(error)) from None

    def _send_raw(self, data: bytes, deadline: Ns, timeout: Outcome = Outcome.FIRST_BYTE_TIMEOUT) -> Ns:
        assert self._socket is not None
        left = memoryview(data)
        at = now()
        while left:
            at = now()
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                if not self._waiter.writable(self._socket.fileno(), deadline):
                    raise WireError(timeout, "the server did not take the request in time") from None
            except OSError as error:
                raise WireError(Outcome.BROKEN_STREAM, f"sending: {error.strerror}") from None
        return at

    def _read_handshake(self, deadline: Ns) -> bytes | None:
        """Return the next bytes, or None if the deadline passed first."""
        assert self._socket is not None
        while True:
            try:
                return self._socket.recv(_HANDSHAKE_BYTES)
            except BlockingIOError:
                if not self._waiter.readable(self._socket.fileno(), deadline):
                    return None
            except OSError as error:
                raise WireError(Outcome.TLS, f"during the handshake: {error.strerror}") from None


class _Tls:
    """TLS over memory: the ciphertext is read by ourselves, so it has the kernel's times."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.fault: str | None = None
        self.closed = False

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is complete."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        self._incoming.write(data)

    def outgoing(self) -> bytes:
        return self._outgoing.read()

    @property
    def holds_more(self) -> bool:
        """Whether it holds bytes of a record that is still incomplete."""
        return self._incoming.pending > 0

    def encrypt(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """Return the plaintext that ``data`` completes; afterwards see ``closed`` and ``fault``."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        plain: list[bytes] = []
        try:
            while piece := self._object.read(_PLAINTEXT_BYTES):
                plain.append(piece)
            self.closed = True  # by the other side's close_notify; without one, a read wants more
        except (ssl.SSLWantReadError, ssl.SSLEOFError):
            pass
        except ssl.SSLError as error:
            self.fault = f"TLS: {_reason(error)}"
        return b"".join(plain)


def new_socket(family: socket.AddressFamily = socket.AF_INET) -> _socket.socket:
    """Return a non-blocking TCP socket without Nagle's delay and, where the kernel has them, with receive stamps."""
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    sock.setblocking(False)  # noqa: FBT003 the standard library's signature
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    if sys.platform == "linux":  # elsewhere times are taken in user space, and the record says so
        sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    return sock


def _no_connection(error: OSError) -> WireError:
    """Return the fault of a machine that opens no socket."""
    is_limit = error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
    outcome = Outcome.CLIENT_LIMIT if is_limit else Outcome.REFUSED
    return WireError(outcome, f"no connection from this machine: {(error.strerror or str(error)).lower()}")


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {error.verify_message}"
    return error.reason or str(error)
