"""Keys in the forms of SSH programs, held against asyncssh, cryptography and RFC 8032's first vector."""

import asyncssh
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from xnode.core.values import PublicKey
from xnode.vm import ssh_keys

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = PublicKey(bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))


def test_public_key_is_rfc_8032s():
    assert ssh_keys.public_key_of(SEED) == PUBLIC


def test_public_line_and_fingerprint_are_openssh_s():
    line = ssh_keys.public_line(PUBLIC)
    assert line == "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
    assert ssh_keys.fingerprint(PUBLIC) == asyncssh.import_public_key(line).get_fingerprint()


def test_openssh_private_is_read_by_others():
    text = ssh_keys.openssh_private(SEED, lambda count: b"\7" * count)
    key = load_ssh_private_key(text.encode(), None)
    assert key.private_bytes_raw() == SEED
    assert max(map(len, text.splitlines())) == 70


def test_openssh_private_names_no_one():
    text = ssh_keys.openssh_private(SEED, lambda count: bytes(count))
    assert asyncssh.import_private_key(text).get_comment() is None


def test_dropbear_private_holds_both_halves():
    assert ssh_keys.dropbear_private(SEED) == b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x40" + SEED + PUBLIC


@pytest.mark.parametrize(("port", "host"), [(22, "10.0.0.1"), (2222, "[10.0.0.1]:2222")])
def test_known_hosts_line(port, host):
    assert ssh_keys.known_hosts_line("10.0.0.1", port, PUBLIC) == f"{host} {ssh_keys.public_line(PUBLIC)}"
