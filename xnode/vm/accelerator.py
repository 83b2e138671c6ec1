"""Chooses what guests run on: KVM only where a probe has shown that it is real, QEMU's emulation (TCG) elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import trio

import xnode
from xnode.core.faults import OperatorFault
from xnode.vm.limits import KVM_INSTRUCTIONS_PER_SECOND_MIN, PROBE_SECONDS
from xnode.vm.qemu_process import Identity

KVM: Final = "kvm"
TCG: Final = "tcg"
_DEVICE: Final = Path("/dev/kvm")


class Choice(NamedTuple):
    """The accelerator, and why: a line for the log and the operator."""

    accelerator: str
    why: str


async def choose(wanted: str, user: Identity) -> Choice:
    """`wanted` is kvm, tcg or "" for whatever the probe finds; takes up to PROBE_SECONDS. Raises OperatorFault."""
    if wanted in (KVM, TCG):
        return Choice(wanted, "set by the operator")
    if wanted:
        raise OperatorFault("bad_accelerator", f"accelerator {wanted!r} must be kvm, tcg or left out")
    if not _DEVICE.exists():
        return Choice(TCG, f"there is no {_DEVICE}")
    return judge(await _probe(user))


def judge(instructions_per_second: float) -> Choice:
    """The choice for a measured speed; 0 means that the probe failed or did not end."""
    speed = f"KVM runs {instructions_per_second / 1e6:.1f} million guest instructions a second"
    if instructions_per_second > KVM_INSTRUCTIONS_PER_SECOND_MIN:
        return Choice(KVM, speed)
    return Choice(TCG, f"{speed}: too slow to be real" if instructions_per_second else "KVM can't be used")


def kvm_groups() -> tuple[int, ...]:
    """The group through which an unprivileged QEMU may open the device; never root's own."""
    group = _DEVICE.stat().st_gid if _DEVICE.exists() else 0
    return (group,) if group else ()


async def _probe(user: Identity) -> float:
    """Runs the probe as the user that QEMU will be; in a child, since a useless KVM may hang."""
    with trio.move_on_after(PROBE_SECONDS):
        result = await trio.run_process(
            [sys.executable, "-I", "-c", _START, str(Path(xnode.__file__).parent.parent), *_identity_words(user)],
            capture_stdout=True, stderr=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if result.returncode == 0:
            return float(result.stdout)
    return 0.0


# Python itself may lie in a directory that the unprivileged user can't enter, so the child loads all it needs first.
_START: Final = """
import os, sys
sys.path.insert(0, sys.argv[1])
from xnode.vm import kvm_probe
if len(sys.argv) > 2:
    uid, gid, *groups = map(int, sys.argv[2:])
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)
try:
    print(kvm_probe.measure())
except OSError as error:
    sys.exit(str(error))
"""


def _identity_words(user: Identity) -> tuple[str, ...]:
    return tuple(map(str, (user.uid, user.gid, *user.groups))) if os.geteuid() == 0 else ()
