"""A host of the world of internet_world.py: it greets at ports 25 and 80 of every address, and resolves names."""

import os
import struct
from functools import partial
from typing import Final

import trio

GREETING: Final = b"GREETING\n"
READY: Final = b"."
PORTS: Final = (25, 80)
ANSWER: Final = bytes((1, 2, 3, 4))


async def serve(resolvers: tuple[str, ...], ready: int) -> None:
    """For ever; `resolvers` are the addresses where it answers names. Writes to a descriptor once it listens."""
    async with trio.open_nursery() as nursery:
        for port in PORTS:
            await nursery.start(partial(trio.serve_tcp, _greet, port, host="0.0.0.0"))
        for address in resolvers:
            sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
            await sock.bind((address, 53))
            nursery.start_soon(_resolve, sock)
        os.write(ready, READY)


async def _greet(stream: trio.SocketStream) -> None:
    await stream.send_all(GREETING)


async def _resolve(sock: trio.socket.SocketType) -> None:
    """Every name is 1.2.3.4."""
    while True:
        query, sender = await sock.recvfrom(512)
        head = query[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + ANSWER
        await sock.sendto(head + query[12:] + record, sender)
