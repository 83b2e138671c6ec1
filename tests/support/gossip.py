"""Publishing until the other side has it: what is gossiped before the mesh has formed vanishes."""

from collections.abc import Awaitable, Callable

import trio

TOPIC = "xnode/blocks"
REPUBLISH_SECONDS = 0.5


async def publish_until_received(
    publish: Callable[[bytes], Awaitable[None]], data: bytes, receive: Callable[[], Awaitable[bytes]]
) -> None:
    """Publishes `data` every half second until `receive` gives just that; other messages are passed over."""

    async def again_and_again() -> None:
        while True:
            await publish(data)
            await trio.sleep(REPUBLISH_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(again_and_again)
        while await receive() != data:
            pass
        nursery.cancel_scope.cancel()
