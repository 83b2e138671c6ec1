"""QEMU's command line. Pure. Every file name is relative to the machine's run directory, which is QEMU's working
directory, so that an unprivileged QEMU needs no path that leads there. No secret is in it: keys are in the initrd or
on the seed disk.
"""

from typing import Final, NamedTuple

from xnode.vm.images import INITRD, KERNEL
from xnode.vm.limits import TRANSLATIONS_MB
from xnode.vm.qmp import DISK_ID, SOCKET_NAME

_ACCELERATORS: Final = {"kvm": "kvm", "tcg": f"tcg,tb-size={TRANSLATIONS_MB}"}
PROGRAM: Final = "qemu-system-x86_64"
DISK: Final = "disk.qcow2"
SEED: Final = "seed.iso"
CONSOLE: Final = "console"
MAC: Final = "52:54:00:12:34:56"  # of every guest's only interface: each is alone in its network
ERRORS: Final = "qemu.err"
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# `restrict=on` closes the host's loopback, its network and the names; `romfile=` spares the network boot ROM.
_NETWORK: Final = "user,id=net0,restrict={restrict},ipv6=off,hostfwd=tcp:127.0.0.1:0-:22"
# No reboot: a panicked or rebooting guest ends its QEMU, and the node sees that. Emulated on a busy host a kernel that
# tests its timer gives up ("IO-APIC + timer doesn't work"); under KVM it does not test it.
KERNEL_WORDS: Final = "console=ttyS0 quiet panic=-1 no_timer_check"
_DIRECT_KERNEL: Final = ("-kernel", KERNEL, "-initrd", INITRD, "-append")
_SEED_DISK: Final = (
    "-drive", f"id=seed0,if=none,format=raw,file={SEED},readonly=on",
    "-device", "virtio-blk-pci,drive=seed0,serial=seed",
)  # fmt: skip


class Guest(NamedTuple):
    """What differs from machine to machine; memory in MiB."""

    name: str
    uuid: str
    accelerator: str
    vcpus: int
    memory_mb: int
    boots_itself: bool = False  # by its disk's boot loader, with a seed disk; else by our kernel and initrd
    resolver: str = ""  # of a machine with internet, in a namespace whose rules say what it reaches; "" closes all


def qemu_command(guest: Guest) -> tuple[str, ...]:
    """The argument vector (spec machines: q35, virtio, restricted user network, sandbox)."""
    network = _NETWORK.format(restrict="off" if guest.resolver else "on")
    words = f"{KERNEL_WORDS} xnode.resolver={guest.resolver}" if guest.resolver else KERNEL_WORDS
    return (
        PROGRAM, "-name", guest.name, "-uuid", guest.uuid,
        "-machine", "q35", "-accel", _ACCELERATORS[guest.accelerator], "-cpu", "max",
        "-smp", str(guest.vcpus), "-m", str(guest.memory_mb),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", _SANDBOX,
        "-chardev", f"file,id=console,path={CONSOLE},append=on", "-serial", "chardev:console",
        "-netdev", network, "-device", f"virtio-net-pci,netdev=net0,mac={MAC},romfile=",
        "-drive", f"id={DISK_ID},if=none,format=qcow2,file={DISK},discard=unmap",
        "-device", f"virtio-blk-pci,drive={DISK_ID},serial=root" + (",bootindex=0" if guest.boots_itself else ""),
        *(_SEED_DISK if guest.boots_itself else (*_DIRECT_KERNEL, words)),
        "-device", "virtio-rng-pci",
        "-qmp", f"unix:{SOCKET_NAME},server=on,wait=off",
    )  # fmt: skip


def disk_command(disk_gb: int, base: str) -> tuple[str, ...]:
    """Makes the machine's disk: `disk_gb` GiB of virtual size, over the image's disk `base` or, without one, empty."""
    backing = ("-b", base, "-F", "qcow2") if base else ()
    return ("qemu-img", "create", "-q", "-f", "qcow2", *backing, DISK, f"{disk_gb}G")
