"""uvicorn's HTTP/1.1 protocol, made able to give a tunnel's connection to the app, and harder.

Theory of operation. For `POST /tunnel/{hash}/tcp` the app finds a `Hijack` in `scope["extensions"]`. While it decides,
all that the client sends behind its request head is kept, within a bound, and its half-close is remembered. Then the
app either answers as usual, after which the connection closes, or calls `take`: the head of a 101 (200 where the client
asked for no upgrade) is written, the socket is duplicated, asyncio's own descriptor is closed, and the duplicate, the
early bytes and the half-close belong to the caller. The HTTP parser stops by itself only where both upgrade headers are
there, so the input is cut after each head before it is parsed; that costs one search in each segment.

Further bounds that uvicorn does not set: connections at once, of one client too, bytes of a head, time until a head is
complete.
"""

import asyncio
import contextlib
import json
import re
import socket
from typing import Any, Final, NamedTuple

import httptools
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from xnode.api.clients import client_of, share_of
from xnode.api.settings import (
    CONNECTIONS_MAX,
    CONNECTIONS_PER_CLIENT_MAX,
    EARLY_BYTES_MAX,
    HEAD_BYTES_MAX,
    IDLE_SECONDS,
    MESSAGE_BYTES_MAX,
)

EXTENSION: Final = "xnode.hijack"
TUNNEL_URL: Final = re.compile(rb"/tunnel/[^/?#]+/tcp(\?[^#]*)?")
HEAD_END: Final = b"\r\n\r\n"
WRITE_SECONDS: Final = 10.0
SWITCH_HEAD: Final = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n"
PLAIN_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\nconnection: close\r\n\r\n"


class Detached(NamedTuple):
    """A connection out of asyncio's hands: non-blocking socket, bytes read already, whether the client half-closed."""

    sock: socket.socket
    early: bytes
    eof: bool


class Hijack:
    """The app's handle on one tunnel request's connection."""

    def __init__(self, protocol: "HijackProtocol", upgrade: bool) -> None:
        self._protocol = protocol
        self.upgrade = upgrade

    async def take(self) -> Detached:
        """Answers 101 or 200 and takes the connection out; raises ClientDisconnect if the client has left."""
        return await self._protocol.detach(SWITCH_HEAD if self.upgrade else PLAIN_HEAD)


class HijackProtocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.whose = ""
        self._hijack: Hijack | None = None
        self._early = bytearray()
        self._eof = False
        self._tail = b""  # the last bytes parsed, in which a head's end may have begun
        self._in_head = True
        self._message_bytes = 0
        self._heads = 0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX or self._are_too_many():
            self._refuse(503, "busy", "the node has too many connections; ask again soon")
        else:
            self._watch(-1)

    def _are_too_many(self) -> bool:
        """Whether this client has its share of connections already."""
        self.whose = client_of({"client": self.client})
        share = share_of(self.whose, CONNECTIONS_PER_CLIENT_MAX, CONNECTIONS_MAX)
        held = [other for other in self.connections if isinstance(other, HijackProtocol) and other.whose == self.whose]
        return len(held) > share

    def connection_lost(self, exc: Exception | None) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        start = 0
        while start < len(data) and self._hijack is None and not self.transport.is_closing():
            end = self._head_end(data, start)
            self._feed(data[start:end])
            start = end
        if self._hijack is not None:
            self._keep(data[start:])

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A tunnel's client may half-close before the tunnel is open."""
        if self._hijack is None:
            return super().eof_received()
        self._eof = True
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._message_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also called for trailers; raising makes the parser refuse the request."""
        if not self._in_head:
            raise ValueError("trailers are not taken")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._heads += 1
        if self._has_body() and self._get_upgrade() is not None:
            raise ValueError("the parser stops at an upgrade, so the body behind it can't be read")
        hijack = Hijack(self, self._get_upgrade() is not None) if self._is_tunnel() else None
        if hijack is not None:
            self.scope["extensions"] = {EXTENSION: hijack}  # type: ignore[dict-item]
        super().on_headers_complete()
        if hijack is not None:
            self._hijack = hijack
            self.cycle.more_body = False
            self.cycle.keep_alive = False  # what follows is not HTTP, so an ordinary answer ends the connection
            self.cycle.message_event.set()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 the message is uvicorn's, the sentence ours
        self._refuse(400, "bad_http", "send a plain HTTP/1.1 request, and no body with an Upgrade header")

    async def detach(self, head: bytes) -> Detached:
        """Writes `head` and lets go of the connection; see `Hijack.take`."""
        if self.transport.is_closing() or self.cycle.response_started:
            raise ClientDisconnect
        sock = self.transport.get_extra_info("socket").dup()
        self.cycle.response_started = self.cycle.response_complete = True
        try:
            await self._write_out(head)
        except BaseException:
            sock.close()
            self.transport.abort()
            raise
        sock.setblocking(False)
        self.transport.abort()  # from here on nothing is awaited before asyncio's reader is gone: no byte can get lost
        return Detached(sock, bytes(self._early), self._eof)

    async def _write_out(self, head: bytes) -> None:
        self.transport.set_write_buffer_limits(0)
        self.transport.write(head)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.flow.drain(), WRITE_SECONDS)
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            raise ClientDisconnect

    def _head_end(self, data: bytes, start: int) -> int:
        """Where the first head that ends in data[start:] ends, or the end of the data."""
        if start == 0:
            across = (self._tail + data[:3]).find(HEAD_END)
            if across >= 0:
                end = across + len(HEAD_END) - len(self._tail)
                self._tail = b""
                return end
        found = data.find(HEAD_END, start)
        end = found + len(HEAD_END) if found >= 0 else len(data)
        self._tail = b"" if found >= 0 else (self._tail + data[-3:])[-3:]
        return end

    def _feed(self, part: bytes) -> None:
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            if self._hijack is None and self.cycle is not None:
                self.cycle.keep_alive = False  # an upgrade that nobody offers: answered as if it had not been asked for
        except httptools.HttpParserError:
            self.send_400_response("")
        self._message_bytes += len(part)
        if self._in_head and self._message_bytes > HEAD_BYTES_MAX:
            self._refuse(431, "head_too_large", f"a request's headers may have {HEAD_BYTES_MAX} bytes together")
        elif self._message_bytes > MESSAGE_BYTES_MAX:
            self._refuse(413, "too_large", f"a request may have {MESSAGE_BYTES_MAX} bytes in all")

    def _keep(self, data: bytes) -> None:
        self._early += data
        if len(self._early) >= EARLY_BYTES_MAX:
            self.flow.pause_reading()

    def _is_tunnel(self) -> bool:
        """A request that can become a tunnel: with a body it can't, since nobody could tell where the tunnel begins."""
        is_post = self.parser.get_method() == b"POST"
        return is_post and TUNNEL_URL.fullmatch(self.url) is not None and not self._has_body()

    def _has_body(self) -> bool:
        headers = dict(self.headers)
        return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"

    def _refuse(self, status: int, code: str, sentence: str) -> None:
        """Answers what never reaches the app, in the API's one error shape, and closes."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            error = {"error": sentence, "code": code}
            body = json.dumps(error | ({"retryable": True} if status == 503 else {})).encode()
            fields = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + fields.encode() + body)
        self.transport.close()

    def _watch(self, heads_before: int) -> None:
        """Closes a connection that has brought no request for a while and waits for no answer."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if not busy and self._heads == heads_before:
            self.transport.close()
        else:
            self._idle_timer = self.loop.call_later(IDLE_SECONDS, self._watch, self._heads)
