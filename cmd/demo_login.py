"""The demo's visits to its machine: the ordinary OpenSSH client, run as `xnode ssh` and `xnode ssh-config` run it."""

import hashlib
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from xnode_cmd.lease_keys import LeaseKeys
from xnode_cmd.node_access import NodeAccess
from xnode_cmd.ssh import Login, find_login

COMMAND_TIMEOUT_S: Final = 60.0
FILE_BYTES: Final = 1 << 20
SSH_FAILED: Final = 255  # OpenSSH's own exit status for what is not the command's fault


class DemoFailure(Exception):
    """A step did not show what it must; the message says what was seen."""


def expect(holds: bool, otherwise: str) -> None:
    """Raises DemoFailure unless it holds."""
    if not holds:
        raise DemoFailure(otherwise)


def run_program(words: list[str], data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A program with its streams; raises DemoFailure where it hangs."""
    try:
        return subprocess.run(words, input=data, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DemoFailure(f"{words[0]} did not end within {COMMAND_TIMEOUT_S:.0f} s") from error


class Visitor:
    """Logs into one lease's machine as the consumer."""

    def __init__(self, consumer: NodeAccess, lease_hash: str) -> None:
        self._consumer = consumer
        self.login = find_login(consumer, lease_hash, None)

    def ssh(self, command: str, data: bytes = b"") -> bytes:
        """What the command wrote; raises DemoFailure with its words where it failed."""
        done = run_program([*ssh_words(self.login), command], data)
        expect(done.returncode == 0, f"ssh {command!r} ended with {done.returncode}: {words_of(done)}")
        return done.stdout

    def copy_by_cat(self) -> str:
        """Copies a file in and out through `ssh cat`; returns its checksum, the same at all three places."""
        content = secrets.token_bytes(FILE_BYTES)
        self.ssh("cat > /tmp/demo.bin", content)
        inside = self.ssh("sha256sum /tmp/demo.bin").decode().split()[0]
        back = self.ssh("cat /tmp/demo.bin")
        return same_checksum(content, inside, back)

    def copy_by_scp(self) -> str:
        """The same by scp."""
        content = secrets.token_bytes(FILE_BYTES)
        with tempfile.TemporaryDirectory() as folder:
            config, there, back = (Path(folder) / name for name in ("config", "there.bin", "back.bin"))
            config.write_text(config_text(self.login))
            there.write_bytes(content)
            remote = f"{self.login.alias}:/tmp/demo.bin"
            for source, target in ((str(there), remote), (remote, str(back))):
                done = run_program(["scp", "-q", "-F", str(config), source, target])
                expect(done.returncode == 0, f"scp {source} {target}: {words_of(done)}")
            inside = self.ssh("sha256sum /tmp/demo.bin").decode().split()[0]
            return same_checksum(content, inside, back.read_bytes())

    def wrong_key(self) -> str:
        """Tries a fresh key that the lease does not name; returns how the machine refused it."""
        keys = LeaseKeys(self._consumer.data_dir)
        identity, _ = keys.make()
        try:
            return refusal(self.login._replace(identity=identity), "Permission denied")
        finally:
            keys.discard(identity)

    def wrong_host(self) -> str:
        """Expects another host key than the published one; returns how OpenSSH refused the machine."""
        keys = LeaseKeys(self._consumer.data_dir)
        identity, stranger = keys.make()
        known = keys.known_hosts("stranger", self.login.alias, stranger)
        try:
            return refusal(self.login._replace(known_hosts=known), "Host key verification failed")
        finally:
            keys.discard(identity)
            known.unlink()


def refusal(login: Login, words: str) -> str:
    """The line in which OpenSSH says `words`; raises DemoFailure where it got in or failed by something else."""
    done = run_program([*ssh_words(login), "true"])
    expect(done.returncode == SSH_FAILED, f"ssh ended with {done.returncode}, though it must be refused")
    lines = [line for line in words_of(done).splitlines() if words in line]
    expect(bool(lines), f"ssh failed, but not by {words!r}: {words_of(done)}")
    return lines[0].strip()


def ssh_words(login: Login) -> list[str]:
    """The command line of OpenSSH, which never asks anything."""
    options = {**login.options(), "BatchMode": "yes"}
    return ["ssh", *[word for name, value in options.items() for word in ("-o", f"{name}={value}")], login.alias]


def config_text(login: Login) -> str:
    """The same as a configuration file."""
    options = {**login.options(), "BatchMode": "yes"}
    return "\n".join([f"Host {login.alias}", *[f"  {name} {value}" for name, value in options.items()], ""])


def words_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a program wrote on stderr."""
    return done.stderr.decode(errors="replace").strip()


def same_checksum(sent: bytes, inside: str, back: bytes) -> str:
    """The SHA-256 of all three; raises DemoFailure where they differ."""
    checksum = hashlib.sha256(sent).hexdigest()
    expect(inside == checksum, f"in the machine the file has checksum {inside}, not {checksum}")
    expect(hashlib.sha256(back).hexdigest() == checksum, "the file came back with another checksum")
    return checksum
