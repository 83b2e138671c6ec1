"""One request, one answer, over a stream of its own: /xnode/rpc/1.0.0 (protocol section 10).

A request is the record (method, args), an answer (0, result) or (1, code, message); both are one frame of canonical
msgpack of 64 KiB at most. A peer is served after it said hello, except for the hello itself.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from xnode.core.codec import Plain, encode
from xnode.core.faults import Fault, NotAllowed, NotFound, PeerFault, Unavailable
from xnode.core.tunnel import clip_text
from xnode.net.ports import Admission, StreamHost
from xnode.net.sessions import PeerSlots, read_record, session, time_limit, write_record
from xnode.net.streams import PeerId, Stream, write_frame

PROTOCOL: Final = "/xnode/rpc/1.0.0"
FRAME_BYTES_MAX: Final = 64 * 1024
CALL_SECONDS_MAX: Final = 30.0
REFUSAL_SECONDS_MAX: Final = 5.0  # for telling a peer that we are busy
SERVED_MAX: Final = 256  # calls served at once
SERVED_PER_PEER_MAX: Final = 16
METHOD_CHARS_MAX: Final = 64
MESSAGE_BYTES_MAX: Final = 1024  # of a fault's message on the wire

OK: Final = 0
FAULT: Final = 1
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

Args = tuple[Plain, ...]
Handler = Callable[[PeerId, Args], Awaitable[Args]]


class Rpc:
    """Calls peers and serves their calls. `counters` has served, refused, malformed, called and failed."""

    def __init__(self, host: StreamHost, slots: PeerSlots | None = None) -> None:
        self._host = host
        self._slots = slots or PeerSlots(SERVED_MAX, SERVED_PER_PEER_MAX)
        self._handlers: dict[str, Handler] = {}
        self._open_methods: set[str] = set()
        self._admission: Admission | None = None
        self.counters: Counter[str] = Counter()
        host.serve(PROTOCOL, self._serve)

    def register(self, method: str, handler: Handler, *, before_hello: bool = False) -> None:
        """Serves `method`; the handler checks its arguments itself and says no by raising a Fault."""
        self._handlers[method] = handler
        if before_hello:
            self._open_methods.add(method)

    def require(self, admission: Admission) -> None:
        """From now on only admitted peers are served and called."""
        self._admission = admission

    async def call(
        self,
        peer_id: PeerId,
        method: str,
        args: Args,
        timeout: float = CALL_SECONDS_MAX,
        addresses: Sequence[str] = (),
    ) -> Args:
        """The peer's result. Raises PeerFault, with the code and message of the peer's own fault if it sent one."""
        self.counters["called"] += 1
        try:
            with time_limit(timeout):
                return await self._call(peer_id, method, args, timeout, addresses)
        except PeerFault:
            self.counters["failed"] += 1
            raise

    async def _call(self, peer_id: PeerId, method: str, args: Args, timeout: float, addresses: Sequence[str]) -> Args:
        if self._admission is not None and method not in self._open_methods:
            await self._admission.ensure(peer_id, addresses, timeout)
        stream = await self._host.open_stream(peer_id, PROTOCOL, addresses, timeout)
        async with session(stream, timeout):
            await write_record(stream, (method, args))
            await stream.close_write()
            return _parse_answer(await read_record(stream, FRAME_BYTES_MAX))

    async def _serve(self, stream: Stream) -> None:
        try:
            with self._slots.take(stream.peer_id):
                await self._serve_one(stream)
        except Unavailable as error:
            self.counters["refused"] += 1
            await self._send_refusal(stream, error)

    async def _serve_one(self, stream: Stream) -> None:
        try:
            async with session(stream, CALL_SECONDS_MAX):
                method, args = _parse_request(await read_record(stream, FRAME_BYTES_MAX))
                await write_frame(stream, await self._answer(stream.peer_id, method, args))
            self.counters["served"] += 1
        except PeerFault:  # nonsense, or the peer left: its stream is reset and it gets no more
            self.counters["malformed"] += 1

    async def _send_refusal(self, stream: Stream, fault: Fault) -> None:
        with suppress(PeerFault):
            async with session(stream, REFUSAL_SECONDS_MAX):
                await write_frame(stream, _fault_answer(fault))

    async def _answer(self, peer_id: PeerId, method: str, args: Args) -> bytes:
        try:
            answer = encode((OK, await self._run(peer_id, method, args)))
        except Fault as fault:
            self.counters["refused"] += 1
            return _fault_answer(fault)
        if len(answer) > FRAME_BYTES_MAX:
            return _fault_answer(Unavailable("answer_too_large", f"the answer is over {FRAME_BYTES_MAX} bytes"))
        return answer

    async def _run(self, peer_id: PeerId, method: str, args: Args) -> Args:
        if method not in self._handlers:
            raise NotFound("unknown_method", f"this node does not serve {method}")
        gate = None if method in self._open_methods else self._admission
        if gate is not None and not await gate.admitted(peer_id):
            raise NotAllowed("hello_first", "say hello before you call")
        return await self._handlers[method](peer_id, args)


def _parse_request(record: Args) -> tuple[str, Args]:
    match record:
        case (str(method), tuple(args)) if 0 < len(method) <= METHOD_CHARS_MAX and method.isprintable():
            return method, args
    raise PeerFault("malformed", "a request is (method, args)")


def _parse_answer(record: Args) -> Args:
    match record:
        case (int(kind), tuple(result)) if kind == OK and not isinstance(kind, bool):
            return result
        case (int(kind), str(code), str(message)) if kind == FAULT and not isinstance(kind, bool):
            raise _remote_fault(code, message)
    raise PeerFault("malformed", "an answer is (0, result) or (1, code, message)")


def _remote_fault(code: str, message: str) -> PeerFault:
    known = code if _CODE.fullmatch(code) else "peer_refused"
    text = clip_text(message, MESSAGE_BYTES_MAX) or "the peer refused without a reason"
    return PeerFault(known, text, retryable=known == "busy")


def _fault_answer(fault: Fault) -> bytes:
    return encode((FAULT, fault.code, clip_text(str(fault), MESSAGE_BYTES_MAX)))
