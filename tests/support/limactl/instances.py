"""The instances of a LIMA_HOME: their files, what state they are in, and how `limactl list --json` shows them."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from tests.support.limactl.keys import Refused, Shape, check, parse

NAME = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*")
NAME_CHARACTERS_MAX = 76
SOCKET = "ssh.sock.1234567890123456"
SOCKET_PATH_BYTES_MAX = 107
VERSION = "2.0.0-double"
FIELDS = (
    "name", "hostname", "status", "dir", "vmType", "arch", "cpus", "memory", "disk", "message", "additionalDisks",
    "network", "sshLocalPort", "sshConfigFile", "hostAgentPID", "driverPID", "errors", "config", "sshAddress",
    "protected", "limaVersion", "param",
)  # fmt: skip


def home() -> Path:
    """LIMA_HOME, made where it is missing."""
    path = Path(os.environ.get("LIMA_HOME") or Path.home() / ".lima")
    (path / "_config").mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


class Instance:
    """A directory below LIMA_HOME."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = home() / name

    @property
    def exists(self) -> bool:
        return (self.directory / "lima.yaml").exists()

    @property
    def document(self) -> dict[str, Any]:
        return parse((self.directory / "lima.yaml").read_text())

    @property
    def shape(self) -> Shape:
        return check(self.document)

    @property
    def pid(self) -> int:
        """Of its QEMU; 0 when that has ended, which leaves its pidfile behind after a kill."""
        try:
            pid = int((self.directory / "qemu.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return 0
        return pid if f"lima-{self.name}".encode() in command else 0

    @property
    def ssh_port(self) -> int:
        path = self.directory / "ssh.port"
        return int(path.read_text()) if path.exists() else 0

    @property
    def status(self) -> str:
        return "Running" if self.pid else "Stopped"

    @property
    def is_protected(self) -> bool:
        return (self.directory / "protected").exists()

    def create(self, text: str) -> None:
        """Checks the name and the document, and writes it; raises Refused."""
        check_name(self.name)
        if self.exists:
            raise Refused(f"instance {self.name!r} already exists")
        check(parse(text))
        self.directory.mkdir(mode=0o700)
        (self.directory / "lima-version").write_text(VERSION)
        (self.directory / "lima.yaml").write_text(text)

    def remove(self) -> None:
        shutil.rmtree(self.directory)

    def as_json(self) -> str:
        """One line; what is empty is left out, as Lima does, `protected` excepted."""
        shape, document = self.shape, self.document
        plain = {
            "name": self.name,
            "hostname": f"lima-{self.name}",
            "status": self.status,
            "dir": str(self.directory),
            "vmType": "qemu",
            "arch": document.get("arch", "x86_64"),
            "cpus": shape.cpus,
            "memory": shape.memory,
            "disk": shape.disk,
            "sshLocalPort": self.ssh_port if self.pid else 0,
            "sshConfigFile": str(self.directory / "ssh.config"),
            "hostAgentPID": self.pid,  # the double has no agent of its own
            "driverPID": self.pid,
            "config": document,
            "sshAddress": "127.0.0.1",
            "protected": self.is_protected,
            "limaVersion": (self.directory / "lima-version").read_text(),
        }
        assert plain.keys() <= set(FIELDS)
        return json.dumps({key: value for key, value in plain.items() if value or key == "protected"})


def check_name(name: str) -> None:
    """Lima's rules for names and for the length of its sockets' paths; raises Refused."""
    if len(name) > NAME_CHARACTERS_MAX or not NAME.fullmatch(name):
        raise Refused(f"identifier {name!r} must match {NAME.pattern} and have at most {NAME_CHARACTERS_MAX} letters")
    path = home() / name / SOCKET
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise Refused(f"instance name {name!r} too long: {str(path)!r} must be less than 108 characters")


def known() -> list[Instance]:
    """All, by name."""
    names = sorted(path.name for path in home().iterdir() if not path.name.startswith(("_", ".")))
    return [instance for instance in map(Instance, names) if instance.exists]
