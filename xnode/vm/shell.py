"""Commands in a machine: one kept SSH connection each, with the provider's own key and the host key known beforehand.

A command goes in on standard input and runs in a session of its own; a timer beside it, in the guest, ends the whole
session. All of this runs on the asyncio thread. Failures are MachineFault(ssh_unreachable) and Unavailable.
"""

import asyncio
import os
import pwd
import shlex
import time
from typing import Final, NamedTuple

import asyncssh

from xnode.core.faults import CallerFault, MachineFault, Unavailable
from xnode.core.machine import ExecResult
from xnode.core.values import PublicKey
from xnode.vm import ssh_keys
from xnode.vm.limits import (
    COMMAND_BYTES_MAX,
    COMMAND_GRACE_SECONDS,
    COMMAND_SECONDS_MAX,
    COMMANDS_AT_ONCE_MAX,
    LOGIN_ATTEMPT_SECONDS,
    OUTPUT_BYTES_MAX,
    STREAM_LINGER_SECONDS,
)
from xnode.vm.net_namespace import dial
from xnode.vm.qemu_process import Process

TIMED_OUT: Final = 124
_SIGNALLED: Final = 128
# POSIX sh. Not timeout(1): busybox's kills only the command itself, not what that started, and does not answer 124.
_RUNNER: Final = """
late=; trap late=1 USR1; command=$(cat)
setsid sh -c "$command" </dev/null & job=$!
setsid sh -c 'sleep "$1"; kill -USR1 "$2"; kill -TERM -"$3"; sleep 1; kill -KILL -"$3"' timer {seconds} $$ $job \
  </dev/null >/dev/null 2>&1 & timer=$!
wait $job; code=$?
if [ "$late" ]; then wait $job; kill -KILL -$job; code=124; fi 2>/dev/null
kill -KILL -$timer 2>/dev/null; exit $code
"""


class Address(NamedTuple):
    """Where a machine's SSH server is and who it must be; `login_seed` is the provider's private key."""

    port: int
    host_key: PublicKey
    login_seed: bytes
    inside: Process | None = None  # in whose network the port is; None for the host's

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Address(port={self.port})"


class Shell:
    """Made by `connect`."""

    def __init__(self, connection: asyncssh.SSHClientConnection) -> None:
        self._connection = connection
        self._running = 0

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands, as far as is known."""
        return not self._connection.is_closed()

    async def execute(self, command: str, timeout: float) -> ExecResult:
        """Runs a shell command; `timeout` in seconds. Raises MachineFault or Unavailable(machine_busy)."""
        if self._running >= COMMANDS_AT_ONCE_MAX:
            message = f"{COMMANDS_AT_ONCE_MAX} commands are running in this machine: wait for one to end"
            raise Unavailable("machine_busy", message, retryable=True)
        self._running += 1
        try:
            return await self._execute(command, timeout)
        except MachineFault:
            raise
        except Exception as error:  # a guest-message edge, as in `connect`
            raise unreachable(error) from error
        finally:
            self._running -= 1

    async def run_bare(self, script: str, timeout: float) -> ExecResult:
        """Runs a short script of our own, without the timer in the guest, whose programs take longer than it does."""
        try:
            return await self._talk(script, b"", timeout)
        except MachineFault:
            raise
        except Exception as error:  # a guest-message edge, as in `connect`
            raise unreachable(error) from error

    async def _execute(self, command: str, timeout: float) -> ExecResult:
        runner = "exec sh -c " + shlex.quote(_RUNNER.format(seconds=f"{timeout:.3f}"))  # whatever root's shell is
        return await self._talk(runner, command.encode(), timeout + COMMAND_GRACE_SECONDS)

    async def _talk(self, words: str, given: bytes, patience: float) -> ExecResult:
        started, output = time.monotonic(), _Output()
        channel, _ = await self._connection.create_session(lambda: output, words, encoding=None)
        try:
            channel.write(given)
            channel.write_eof()
            await output.finished(patience)
        finally:
            channel.close()
        return output.result(round((time.monotonic() - started) * 1000))

    async def close(self) -> None:
        """Ends the connection, and with it the output of commands that still run."""
        self._connection.abort()
        await self._connection.wait_closed()


class _Output(asyncssh.SSHClientSession[bytes]):
    """Collects what a command says, up to the cap of each stream; the rest is read and dropped."""

    def __init__(self) -> None:
        self._streams = {None: bytearray(), asyncssh.EXTENDED_DATA_STDERR: bytearray()}
        self._truncated = False
        self._exit_code: int | None = None
        self._error: Exception | None = None
        self._exited = asyncio.Event()
        self._closed = asyncio.Event()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        stream = self._streams[datatype]
        room = OUTPUT_BYTES_MAX - len(stream)
        self._truncated = self._truncated or len(data) > room
        stream += data[:room]

    def exit_status_received(self, status: int) -> None:
        self._exit_code = status
        self._exited.set()

    def exit_signal_received(self, *_signal: object) -> None:
        self._exit_code = _SIGNALLED
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self._exited.set()
        self._closed.set()

    async def finished(self, patience: float) -> None:
        """Returns once the command has ended and its output too; a guest that does not keep its own time is cut off."""
        try:
            async with asyncio.timeout(patience):
                await self._exited.wait()
            async with asyncio.timeout(STREAM_LINGER_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            self._exit_code = TIMED_OUT if self._exit_code is None else self._exit_code

    def result(self, duration_ms: int) -> ExecResult:
        if self._exit_code is None:
            raise unreachable(self._error or ConnectionError("the machine closed the connection"))
        stdout, stderr = (bytes(stream) for stream in self._streams.values())
        return ExecResult(self._exit_code, stdout, stderr, duration_ms, self._truncated)


class _Keys(asyncssh.SSHClient):
    """Offers its keys one after another, each once the one before it was refused."""

    def __init__(self, seeds: tuple[bytes, ...]) -> None:
        self._left = list(seeds)

    def public_key_auth_requested(self) -> asyncssh.SSHKey | None:
        return _private_key(self._left.pop(0)) if self._left else None

    @property
    def all_offered(self) -> bool:
        """Whether it was the last one that let us in."""
        return not self._left


def _private_key(seed: bytes) -> asyncssh.SSHKey:
    return asyncssh.import_private_key(ssh_keys.openssh_private(seed, _check_bytes))


async def connect(address: Address, refused_seed: bytes = b"") -> Shell:
    """Logs in as root, after a key that must be refused where one is given.

    Raises MachineFault: ssh_unreachable, wrong_host_key for another machine, key_not_removed.
    """
    _name_this_user()
    keys = _Keys((refused_seed, address.login_seed) if refused_seed else (address.login_seed,))
    host_key = asyncssh.import_public_key(ssh_keys.public_line(address.host_key))
    try:
        async with asyncio.timeout(LOGIN_ATTEMPT_SECONDS):
            sock = await asyncio.to_thread(dial, address.port, address.inside)
            connection = await asyncssh.connect(
                sock=sock, username="root", client_keys=None, client_factory=lambda: keys,
                known_hosts=([host_key], [], []), config=None, agent_path=None, x509_trusted_certs=None,
                x509_trusted_cert_paths=[], keepalive_interval=30,
            )  # fmt: skip
    except asyncssh.HostKeyNotVerifiable as error:
        message = "the SSH server behind the machine's port does not hold the machine's host key"
        raise MachineFault("wrong_host_key", message) from error
    except Exception as error:  # a guest-message edge: asyncssh stumbles over more than its own errors
        raise unreachable(error) from error
    if not keys.all_offered:
        connection.abort()
        raise MachineFault("key_not_removed", "the machine still lets the key in that it was booted with")
    return Shell(connection)


def _name_this_user() -> None:
    """asyncssh insists on a name and a home for the local user, which containers may not have."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", "xnode")
        os.environ.setdefault("HOME", "/")


def check_command(command: str, timeout: float) -> None:
    """Raises CallerFault(bad_command) or CallerFault(bad_timeout)."""
    if not command or "\0" in command or len(command.encode(errors="replace")) > COMMAND_BYTES_MAX:
        message = f"a command must have 1 to {COMMAND_BYTES_MAX} bytes and no NUL"
        raise CallerFault("bad_command", message)
    if not 0 < timeout <= COMMAND_SECONDS_MAX:
        message = f"a command's timeout must be above 0 and at most {COMMAND_SECONDS_MAX:.0f} seconds"
        raise CallerFault("bad_timeout", message)


def unreachable(error: BaseException) -> MachineFault:
    """The fault for a machine whose SSH server did not answer as it should; its own words are evidence only."""
    name = type(error).__name__
    ours = (error.strerror or str(error)) if isinstance(error, OSError) else ""
    message = f"the machine can't be reached by SSH ({f'{name}: {ours}' if ours else name})"
    return MachineFault("ssh_unreachable", message, retryable=True, evidence="" if ours else str(error))


def _check_bytes(count: int) -> bytes:
    """The key file's check bytes are no secret: both copies in the file must merely be equal."""
    return bytes(count)
