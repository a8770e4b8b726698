"""The same over TLS, in the same loop: the records go through memory, so that a handshake holds up nobody else."""

import contextlib
import select
import socket
import ssl

from loadgen.engines.simulated.channel import Channel


def context(cert: str, key: str) -> ssl.SSLContext:
    """Return a server's context from PEM files; raises OSError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert, key)
    made.set_alpn_protocols(["http/1.1"])
    return made


class TlsChannel(Channel):
    """One socket, spoken to over TLS. A send's time is just before its record goes to the socket."""

    __slots__ = ("_incoming", "_outgoing", "_shaken", "_tls")

    def __init__(self, sock: socket.socket, epoll: select.epoll, tls: ssl.SSLContext) -> None:
        """Wait for the client's hello."""
        super().__init__(sock, epoll)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._shaken = False

    def send(self, data: bytes) -> None:
        """Send as one record, or more where it is long."""
        super().send(self._sealed(data))

    def send_beside(self, data: bytes) -> None:
        """Send what is no part of an answer and has no time."""
        super().send_beside(self._sealed(data))

    def receive(self) -> bytes:
        """Return what came; the handshake's share of it is answered."""
        self._incoming.write(super().receive())
        plain = b""
        try:
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while piece := self._tls.read(65_536):
                plain += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            if not plain:
                raise ConnectionResetError from None
        finally:
            if self._outgoing.pending:  # our part of the handshake, or the alert that says why it failed
                super().send_beside(self._outgoing.read())
        return plain

    def close(self) -> None:
        """Say that nothing more follows, and close."""
        if self._shaken and not self.waits:
            with contextlib.suppress(OSError):
                self._tls.unwrap()  # asks for the client's goodbye, which we do not wait for
            with contextlib.suppress(OSError):
                super().send_beside(self._outgoing.read())
        super().close()

    def _sealed(self, data: bytes) -> bytes:
        if data:  # nothing is not sealed: it would be a record
            self._tls.write(data)
        return self._outgoing.read()
