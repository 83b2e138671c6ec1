"""A node that has nothing but a toy ledger and its sync, and a peer that lies about what it has."""

import trio

from tests.support.streams import MemoryHost, MemoryNetwork
from tests.support.toy_ledger import ToyLedger
from xnode.net import sync_plan
from xnode.net.sessions import read_record, write_record
from xnode.net.streams import Stream
from xnode.net.sync import Sync
from xnode.net.sync_ranges import PARTS_BYTES
from xnode.net.sync_rota import SessionEnd


class Node:
    """A host with a toy ledger and its sync."""

    def __init__(self, network: MemoryNetwork, name: str, breath: bool = False) -> None:
        self.host: MemoryHost = network.host(name)
        self.ledger = ToyLedger(breath)
        self.sync = Sync(self.host, self.ledger, self.ledger)

    async def fetch(self, other: "Node | MemoryHost") -> SessionEnd:
        host = other.host if isinstance(other, Node) else other
        return await self.sync.fetch(host.peer_id)


def two_nodes(nursery: trio.Nursery, breath: bool = False) -> tuple[Node, Node]:
    network = MemoryNetwork(nursery)
    return Node(network, "a"), Node(network, "b", breath)


async def say_different(stream: Stream, blocks: int = 0) -> None:
    """Every part differs from everybody's; says no to no question."""
    await read_record(stream, 1000)
    await write_record(stream, (sync_plan.DIFFERENT, b"x" * PARTS_BYTES, blocks, blocks))
    while (record := await read_record(stream, 100_000))[0] == sync_plan.ASK_BUCKETS:
        assert isinstance(record[1], tuple)
        await write_record(stream, (sync_plan.BUCKETS, b"x" * (PARTS_BYTES * len(record[1]))))
    if record[0] == sync_plan.EXACT:
        while not (await read_record(stream, 100_000))[2]:
            pass
