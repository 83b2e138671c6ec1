"""Lima's command line, as an unprivileged user: one short-lived process a command, and its JSON of what there is.

Exit codes and fields are those of Lima 2 (read from its source): 0 for `start` of a running instance and for `delete`
of one that is not there, 1 for every other refusal; `list --json` writes one object a line.
"""

import json
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

import trio

from xnode.core.faults import MachineFault
from xnode.vm import accelerator
from xnode.vm.lima_settings import Account
from xnode.vm.limits import LIMACTL_SECONDS

RUNNING: Final = "Running"
STOPPED: Final = "Stopped"
_UNMADE: Final = ("Uninitialized", "Installing")
# Lima takes KVM wherever the device exists; its variable for another QEMU is its own way to be told otherwise.
_EMULATION: Final = "qemu-system-x86_64 -machine q35,vmport=off,accel=tcg -cpu max"
_COMPLAINT_CHARACTERS: Final = 800


class LimaInstance(NamedTuple):
    """One instance as `limactl list` shows it; `pid` is QEMU's, 0 while there is none."""

    status: str
    directory: Path
    pid: int
    ssh_port: int
    errors: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """Whether its guest runs, as far as Lima knows."""
        return self.status == RUNNING and self.pid > 0

    @property
    def is_off(self) -> bool:
        """Whether nothing of it runs."""
        return self.status == STOPPED or self.status in _UNMADE


class Limactl:
    """`chosen` is the accelerator, kvm or tcg."""

    def __init__(self, account: Account, home: Path, chosen: str) -> None:
        self._account = account
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "LANG": "C",
            "LIMA_HOME": str(home),
            **({"QEMU_SYSTEM_X86_64": _EMULATION} if chosen == accelerator.TCG else {}),
        }

    async def instances(self) -> dict[str, LimaInstance]:
        """All that this user has, by name; raises MachineFault(lima_failed)."""
        return parse_list(await self.run("list", "--json"))

    async def run(self, *words: str, given: bytes = b"", patience: float = LIMACTL_SECONDS) -> bytes:
        """What it wrote to standard output, `given` being its input; raises MachineFault(lima_failed) with its own
        complaint, or once `patience` seconds are over."""
        command = (self._account.program, "--tty=false", *words)
        with trio.move_on_after(patience):
            try:
                result = await trio.run_process(
                    command, stdin=given, check=False, cwd="/", env=self.environment, umask=0o077,
                    capture_stdout=True, capture_stderr=True, **self._account.identity.popen_arguments(),
                )  # fmt: skip
            except OSError as error:
                raise MachineFault("lima_failed", f"{self._account.program} can't be started ({error})") from error
            return _checked(words[0], result)
        raise MachineFault("lima_failed", f"limactl {words[0]} was not done after {patience:.0f} s", retryable=True)


def _checked(verb: str, result: subprocess.CompletedProcess[bytes]) -> bytes:
    if result.returncode:
        complaint = result.stderr.decode(errors="replace").strip()[-_COMPLAINT_CHARACTERS:]
        raise MachineFault("lima_failed", f"limactl {verb} ended with {result.returncode}: {complaint}")
    return result.stdout


def parse_list(output: bytes) -> dict[str, LimaInstance]:
    """What `limactl list --json` wrote; raises MachineFault(lima_failed) where it is something else."""
    try:
        plain = [json.loads(line) for line in output.splitlines() if line.strip()]
        return {str(item["name"]): _instance(item) for item in plain}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"limactl list --json wrote what this node can't read ({error!r}): is it Lima 2?"
        raise MachineFault("lima_failed", message) from error


def _instance(plain: dict[str, object]) -> LimaInstance:
    errors = plain.get("errors") or []
    return LimaInstance(
        status=str(plain["status"]),
        directory=Path(str(plain["dir"])),
        pid=_number(plain, "driverPID"),
        ssh_port=_number(plain, "sshLocalPort"),
        errors=tuple(map(str, errors)) if isinstance(errors, list) else (),
    )


def _number(plain: dict[str, object], name: str) -> int:
    value = plain.get(name, 0)
    if not isinstance(value, int):
        raise TypeError(f"{name} is no number")
    return value
