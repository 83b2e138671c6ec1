"""Waiting for a machine to be up: its console says so, then the provider's own login works (spec machines: "Up").

A TCP connection proves nothing, since QEMU's network accepts at once, for a guest that has none yet. Meanwhile a QEMU
that ends, a guest kernel that gives up and QEMU's `internal-error` (a KVM that can't go on) are noticed
within a second.
"""

from contextlib import suppress
from pathlib import Path

import trio

from xnode.core.faults import MachineFault
from xnode.vm import console, qmp, shell
from xnode.vm.asyncio_thread import AsyncioThread
from xnode.vm.driver import BOOTED, Tell
from xnode.vm.limits import (
    CONSOLE_POLL_SECONDS,
    LOGIN_PAUSE_SECONDS,
    QMP_READY_SECONDS,
    STATUS_POLL_SECONDS,
)
from xnode.vm.qemu_process import Process, is_alive


class Boot:
    """One machine on its way up: `directory` is its run directory."""

    def __init__(self, thread: AsyncioThread, directory: Path, process: Process) -> None:
        self._thread = thread
        self._directory = directory
        self._process = process

    async def forwarded_port(self, uuid: str) -> int:
        """The host port that QEMU chose, once its monitor answers; raises MachineFault."""
        with trio.move_on_after(QMP_READY_SECONDS):
            while True:
                self._check_alive()
                with suppress(MachineFault):  # not yet
                    found, port = await self._thread.run(qmp.identity, self._directory)
                    break
                await trio.sleep(CONSOLE_POLL_SECONDS)
            if found != uuid or not port:
                raise self._fault("wrong_qemu", "another QEMU answers in the machine's directory")
            return port
        raise self._fault("qmp_failed", "QEMU has not opened its monitor")

    async def up(self, address: shell.Address, timeout: float, login_timeout: float, tell: Tell) -> shell.Shell:
        """The first login; raises MachineFault(boot_timeout, machine_exited, guest_panicked, ...)."""
        with trio.move_on_after(timeout):
            await self._marker()
            tell(BOOTED)
            return await self._login(address, login_timeout)
        raise self._fault("boot_timeout", f"the machine was not up after {timeout:.0f} s")

    async def _marker(self) -> None:
        next_look = trio.current_time()
        while not console.has_booted(self._directory):
            self._check_alive()
            self._check_panic()
            if trio.current_time() >= next_look:
                await self._check_state()
                next_look = trio.current_time() + STATUS_POLL_SECONDS
            await trio.sleep(CONSOLE_POLL_SECONDS)

    async def _login(self, address: shell.Address, timeout: float) -> shell.Shell:
        deadline = trio.current_time() + timeout
        while True:
            try:
                return await self._thread.run(shell.connect, address)
            except MachineFault as fault:
                self._check_alive()
                if not fault.retryable or trio.current_time() > deadline:
                    raise self._fault(fault.code, str(fault)) from fault
            await trio.sleep(LOGIN_PAUSE_SECONDS)

    async def _check_state(self) -> None:
        try:
            state = await self._thread.run(qmp.status, self._directory)
        except MachineFault:
            self._check_alive()  # the likeliest reason
            return
        if state == qmp.INTERNAL_ERROR:
            raise self._fault("machine_internal_error", "the accelerator can't go on (set it to tcg)")

    def _check_alive(self) -> None:
        if not is_alive(self._process):
            self._check_panic()
            if not console.has_output(self._directory):  # the guest had no part in it
                raise self._fault("qemu_exited", "QEMU ended before the guest began")
            raise self._fault("machine_exited", "QEMU ended while the machine booted")

    def _check_panic(self) -> None:
        if words := console.panic(self._directory):
            raise self._fault("guest_panicked", "the guest's kernel gave up", words)

    def _fault(self, code: str, what: str, words: str = "") -> MachineFault:
        """Without what the guest wrote, which is not for all who learn of a fault."""
        evidence = " | ".join(filter(None, (words, console.last_lines(self._directory))))
        return MachineFault(code, f"{what}; its last words are in the provider's log", evidence=evidence)
