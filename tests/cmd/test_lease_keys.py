"""The keys of leases, and the command line that OpenSSH is given."""

import subprocess
from pathlib import Path

import click
import pytest

from tests.support.ledger import key_of
from xnode.config import DataDir
from xnode_cmd.demo_login import config_text, ssh_words
from xnode_cmd.lease_keys import LeaseKeys, parse_public_key, read_public_key
from xnode_cmd.node_access import NodeAccess
from xnode_cmd.ssh import Login, proxy_command

LEASE = "0123456789ab" + "c" * 52


@pytest.fixture
def keys(tmp_path: Path) -> LeaseKeys:
    """The keys of a data directory whose path OpenSSH must quote."""
    (tmp_path / "a node 100%").mkdir()
    return LeaseKeys(DataDir(tmp_path / "a node 100%"))


def test_a_key_is_private_and_openssh_reads_it(keys: LeaseKeys) -> None:
    path, key = keys.make()
    assert path.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert parse_public_key(shown) == key


def test_a_key_is_found_by_its_lease(keys: LeaseKeys) -> None:
    path, key = keys.make()
    named = keys.assign(path, LEASE)
    assert named.name == "0123456789ab"
    assert keys.find(LEASE, key) == named
    assert read_public_key(f"{named}.pub") == key


def test_a_key_whose_request_was_interrupted_is_found_by_itself(keys: LeaseKeys) -> None:
    path, key = keys.make()
    keys.make()
    assert keys.find(LEASE, key) == path
    assert keys.find(LEASE, key_of("stranger").public_key) is None


def test_keys_as_text() -> None:
    key = key_of("somebody").public_key
    assert read_public_key(key.hex()) == key


@pytest.mark.parametrize(
    "text", ["", "ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 !!", "ssh-ed25519 AAAA", "-----BEGIN"]
)
def test_other_keys_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pub").write_text(text)
    with pytest.raises(click.ClickException, match="ssh-keygen -t ed25519"):
        read_public_key(str(tmp_path / "key.pub"))


def test_a_private_key_is_refused(keys: LeaseKeys) -> None:
    path, _ = keys.make()
    with pytest.raises(click.ClickException, match="private key"):
        read_public_key(str(path))


def test_openssh_understands_what_it_is_given(keys: LeaseKeys, tmp_path: Path) -> None:
    path, key = keys.make()
    identity = keys.assign(path, LEASE)
    known_hosts = keys.known_hosts(LEASE, "xnode-0123456789ab", key)
    proxy = proxy_command(NodeAccess(keys.folder.parent), LEASE, "http://127.0.0.1:8080")
    login = Login("xnode-0123456789ab", identity, known_hosts, proxy)
    (tmp_path / "config").write_text(config_text(login))
    by_options = [*ssh_words(login)[:1], "-G", *ssh_words(login)[1:]]
    for words in (by_options, ["ssh", "-G", "-F", str(tmp_path / "config"), login.alias]):
        shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        settings = dict(line.partition(" ")[::2] for line in shown)
        assert settings["user"] == "root"
        assert settings["stricthostkeychecking"] == "true"
        assert settings["userknownhostsfile"].strip('"').replace("%%", "%") == str(known_hosts)
        assert settings["identityfile"].strip('"').replace("%%", "%") == str(identity)
        assert settings["proxycommand"] == proxy
        assert settings["identitiesonly"] == "yes"


def test_the_known_hosts_file_names_the_machine(keys: LeaseKeys) -> None:
    path = keys.known_hosts(LEASE, "xnode-0123456789ab", key_of("host").public_key)
    words = ["ssh-keygen", "-F", "xnode-0123456789ab", "-f", str(path)]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert parse_public_key(found.splitlines()[-1].partition(" ")[2]) == key_of("host").public_key
