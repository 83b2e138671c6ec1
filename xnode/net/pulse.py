"""A wake-up call that many tasks can wait for. Missing one loses nothing: every waiter also looks again by itself."""

import trio


class Pulse:
    """`fire` wakes all who wait now; `wait` ends at the next fire or after `seconds`."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Wakes everybody who is waiting."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self, seconds: float) -> None:
        """Until the next fire, `seconds` at most."""
        with trio.move_on_after(seconds):
            await self._event.wait()
