"""The guest behind the double: a real one under QEMU, with OpenSSH, which gets its keys as a cloud image would.

It boots the kernel and the initrd in the directory that LIMACTL_DOUBLE_GUEST names, whatever the document's image is;
that must be a file, and the machine's disk is an empty one of the document's size. In place of cloud-init stands an
archive appended to the initrd: guest-init.sh, and the login of Lima's own key.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path

from tests.support.limactl.instances import Instance, home
from tests.support.limactl.keys import Refused
from xnode.vm import cpio

POWER_OFF_SECONDS = 30.0
QUIT_SECONDS = 10.0
POLL_SECONDS = 0.1
SSH_PAUSE_SECONDS = 0.5
BOOTED = b"the guest is up"
HERE = Path(__file__).parent


def start(instance: Instance, timeout: float) -> None:
    """Boots it and waits for its SSH; raises Refused, and then leaves it running, as Lima does."""
    location = instance.shape.image
    if not location.startswith(("http://", "https://")) and not Path(location).is_file():
        raise Refused(f"failed to download the image: {location}: no such file or directory")
    _prepare(instance)
    port = _free_port()
    (instance.directory / "ssh.port").write_text(str(port))
    (instance.directory / "ssh.config").write_text(_ssh_config(instance, port))
    _spawn(instance, port)
    deadline = time.monotonic() + timeout
    while instance.pid and BOOTED not in (instance.directory / "serial.log").read_bytes():
        time.sleep(POLL_SECONDS)  # spares an emulated guest the attempts
    while ssh(instance, ("true",), quiet=True) != 0:
        if not instance.pid:
            raise Refused('exiting, status={Exiting:true}: the driver has ended (hint: see "serial.log")')
        if time.monotonic() > deadline:
            raise Refused(f'did not receive an event with the "running" status within {timeout:.0f} s')
        time.sleep(SSH_PAUSE_SECONDS)


def ssh(instance: Instance, command: tuple[str, ...], *, quiet: bool = False) -> int:
    """Runs a command in the guest with Lima's own key; ssh's exit status."""
    words = ("ssh", "-F", str(instance.directory / "ssh.config"), "-q", f"lima-{instance.name}", "--", *command)
    stdin = subprocess.DEVNULL if quiet else None
    return subprocess.run(words, stdin=stdin, check=False, stderr=stdin).returncode


def shell(instance: Instance, workdir: str, words: list[str]) -> int:
    """As `limactl shell` does it: a login shell of the user, in a directory."""
    command = " ".join(map(shlex.quote, words))
    return ssh(instance, (f'cd {shlex.quote(workdir)} || exit 1; exec "$SHELL" -l -c {shlex.quote(command)}',))


def stop(instance: Instance, *, force: bool) -> None:
    """Presses the power button and waits, or kills it."""
    pid = instance.pid
    if not force:
        with contextlib.suppress(OSError):
            _press_power_button(instance)
        if _gone(instance, POWER_OFF_SECONDS):
            return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not _gone(instance, QUIT_SECONDS):
        raise Refused(f"the driver (pid {pid}) does not end")


def _gone(instance: Instance, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while instance.pid and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return not instance.pid


def _prepare(instance: Instance) -> None:
    key = home() / "_config" / "user"
    if not key.exists():
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lima", "-f", str(key)), check=True)
    disk = instance.directory / "disk"
    if not disk.exists():
        words = ("qemu-img", "create", "-q", "-f", "qcow2", str(disk), str(instance.shape.disk))
        subprocess.run(words, check=True)
    for leftover in ("serial.log", "qmp.sock", "qemu.pid"):
        (instance.directory / leftover).unlink(missing_ok=True)
    seed = cpio.write_archive(
        (
            cpio.regular("init", (HERE / "guest-init.sh").read_bytes(), 0o755),
            cpio.directory("cidata", 0o700),
            cpio.regular("cidata/authorized_keys", key.with_suffix(".pub").read_bytes(), 0o600),
            cpio.regular("cidata/hostname", f"lima-{instance.name}\n".encode()),
            cpio.regular("cidata/user", f"{instance.shape.user}\n".encode()),
        )
    )
    guest = Path(os.environ["LIMACTL_DOUBLE_GUEST"])
    (instance.directory / "initrd").write_bytes((guest / "initrd").read_bytes() + seed)


def _spawn(instance: Instance, port: int) -> None:
    """QEMU as Lima starts it: its accelerator by the existence of /dev/kvm, no `restrict` on its network."""
    shape = instance.shape
    words = shlex.split(os.environ.get("QEMU_SYSTEM_X86_64", "qemu-system-x86_64"))
    if "-machine" not in words:
        words += ["-machine", "q35,accel=" + ("kvm" if Path("/dev/kvm").exists() else "tcg")]
    words += [
        "-m", str(shape.memory >> 20), "-smp", f"{shape.cpus},sockets=1,cores={shape.cpus},threads=1",
        "-drive", "file=disk,if=virtio,discard=on",
        "-kernel", str(Path(os.environ["LIMACTL_DOUBLE_GUEST"]) / "vmlinuz"), "-initrd", "initrd",
        "-append", "console=ttyS0 quiet panic=-1 no_timer_check",
        "-netdev", f"user,id=net0,net=192.168.5.0/24,dhcpstart=192.168.5.15,hostfwd=tcp:127.0.0.1:{port}-:22",
        "-device", "virtio-net-pci,netdev=net0,romfile=", "-device", "virtio-rng-pci", "-display", "none",
        "-vga", "none", "-parallel", "none",
        "-chardev", "socket,id=char-serial,path=serial.sock,server=on,wait=off,logfile=serial.log",
        "-serial", "chardev:char-serial", "-qmp", "unix:qmp.sock,server=on,wait=off",
        "-name", f"lima-{instance.name}", "-pidfile", "qemu.pid", "-daemonize",
    ]  # fmt: skip
    done = subprocess.run(words, cwd=instance.directory, stdin=subprocess.DEVNULL, check=False, capture_output=True)
    if done.returncode:
        raise Refused(f"QEMU ended: {done.stderr.decode(errors='replace')}")


def _ssh_config(instance: Instance, port: int) -> str:
    return (
        f"Host lima-{instance.name}\n  IdentityFile {home() / '_config' / 'user'}\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile /dev/null\n  NoHostAuthenticationForLocalhost yes\n  BatchMode yes\n"
        f"  IdentitiesOnly yes\n  User {instance.shape.user}\n  Hostname 127.0.0.1\n  Port {port}\n"
        f"  ConnectTimeout 15\n  ControlMaster auto\n  ControlPath {instance.directory / 'ssh.sock'}\n"
        f"  ControlPersist yes\n  KexAlgorithms curve25519-sha256\n"  # the quickest to emulate
    )


def _press_power_button(instance: Instance) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(instance.directory / "qmp.sock"))
        with sock.makefile("rw") as file:
            file.readline()
            for command in ("qmp_capabilities", "system_powerdown"):
                file.write(json.dumps({"execute": command}) + "\n")
                file.flush()
                file.readline()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
