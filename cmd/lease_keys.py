"""The SSH keys of leases: `lease-keys/<first 12 of the hash>`, with `.pub` and `.known_hosts` beside each."""

import base64
import re
import secrets
from pathlib import Path
from typing import Final

import click

from xnode.config import DataDir, write_private
from xnode.core.values import PublicKey, public_key_from_hex
from xnode_cmd.output import short

HEX_KEY: Final = re.compile(r"[0-9a-f]{64}")
KEY_TYPE: Final = "ssh-ed25519"
BLOB_HEAD: Final = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"  # RFC 8709: the type and the key's length


class LeaseKeys:
    """The folder of one data directory."""

    def __init__(self, data_dir: DataDir) -> None:
        self.folder = data_dir.lease_keys

    def make(self) -> tuple[Path, PublicKey]:
        """A fresh key on disk before anything is asked of anybody; `assign` names it for its lease."""
        from xnode.vm.ssh_keys import new_seed, openssh_private, public_key_of, public_line

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seed = new_seed(secrets.token_bytes)
        path = self.folder / f"request-{secrets.token_hex(6)}"
        write_private(path, openssh_private(seed, secrets.token_bytes))
        _public(path).write_text(public_line(public_key_of(seed)) + "\n")
        return path, public_key_of(seed)

    def assign(self, path: Path, lease_hash: str) -> Path:
        """Gives a fresh key the name of its lease."""
        named = self.folder / short(lease_hash)
        _public(path).rename(_public(named))
        return path.rename(named)

    def discard(self, path: Path) -> None:
        """Removes a key that opens nothing."""
        path.unlink()
        _public(path).unlink()

    def find(self, lease_hash: str, key: PublicKey) -> Path | None:
        """The private key of a lease, also where the process that asked for it died before naming it."""
        named = self.folder / short(lease_hash)
        if named.exists():
            return named
        for public in sorted(self.folder.glob("*.pub")):
            if parse_public_key(public.read_text()) == key:
                return public.with_suffix("")
        return None

    def known_hosts(self, lease_hash: str, alias: str, host_key: PublicKey) -> Path:
        """A file that holds the machine's own key and nothing else."""
        from xnode.vm.ssh_keys import known_hosts_line

        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{short(lease_hash)}.known_hosts"
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        partial.write_text(known_hosts_line(alias, 22, host_key) + "\n")
        return partial.replace(path)  # two `xnode ssh` at once never see half a file


def _public(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def read_public_key(given: str) -> PublicKey:
    """A key given as 64 hex characters or as the name of an OpenSSH .pub file; raises click.ClickException."""
    if HEX_KEY.fullmatch(given):
        return public_key_from_hex(given)
    try:
        text = Path(given).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"--key {given}: give 64 hex characters or an ed25519 .pub file") from error
    if "PRIVATE KEY" in text:
        raise click.ClickException(f"{given} is a private key; give its .pub file")
    return parse_public_key(text)


def parse_public_key(line: str) -> PublicKey:
    """The key in an `ssh-ed25519 AAAA...` line; raises click.ClickException."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True) if words[:1] == [KEY_TYPE] else b""
    except (IndexError, ValueError):
        blob = b""
    if not blob.startswith(BLOB_HEAD) or len(blob) != len(BLOB_HEAD) + 32:
        raise click.ClickException("only ed25519 keys serve for leases; make one with `ssh-keygen -t ed25519`")
    return PublicKey(blob[len(BLOB_HEAD) :])
