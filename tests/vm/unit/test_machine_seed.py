"""What a machine is told at its first boot, by either way."""

import io
import json

from pycdlib import PyCdlib

from tests.support.qemu import new_consumer, new_spec
from xnode.core.machine import machine_name
from xnode.vm import machine_seed, ssh_keys
from xnode.vm.machine_seed import Seeds

SEEDS = Seeds(bytes(32), bytes(31) + b"\1", bytes)


def test_seed_gives_both_keys_in_lines_of_our_own():
    archive = machine_seed.archive(new_spec(new_consumer()), SEEDS)
    assert archive.count(b"ssh-ed25519 AAAA") == 2
    assert b"seed/host_key\0" in archive


def read_disk(disk: bytes) -> dict[str, bytes]:
    iso = PyCdlib()
    iso.open_fp(io.BytesIO(disk))
    assert iso.pvd.volume_identifier.rstrip() == b"cidata"
    found = {}
    for child in iso.list_children(rr_path="/"):
        name = child.rock_ridge.name().decode()
        if name in (".", "..", ""):
            continue
        out = io.BytesIO()
        iso.get_file_from_iso_fp(out, rr_path=f"/{name}")
        found[name] = out.getvalue()
    iso.close()
    return found


def test_seed_disk_tells_cloud_init_all_that_a_machine_needs():
    spec = new_spec(new_consumer())
    files = read_disk(machine_seed.disk(spec, SEEDS))
    assert set(files) == {"meta-data", "user-data"}
    name = machine_name(spec.lease_hash)
    assert json.loads(files["meta-data"]) == {"instance-id": spec.lease_hash.hex(), "local-hostname": name}
    head, _, text = files["user-data"].partition(b"\n")
    assert head == b"#cloud-config"
    told = json.loads(text)
    keys = [ssh_keys.public_line(key) for key in (spec.access_key, ssh_keys.public_key_of(SEEDS.provider))]
    assert told["ssh_authorized_keys"] == keys
    assert told["ssh_keys"]["ed25519_public"] == ssh_keys.public_line(ssh_keys.public_key_of(SEEDS.host))
    assert told["ssh_keys"]["ed25519_private"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert (told["hostname"], told["disable_root"], told["ssh_pwauth"]) == (name, False, False)
    assert told["growpart"] == {"mode": "auto", "devices": ["/"]}


def test_a_machine_with_internet_takes_the_operators_resolver_and_no_other():
    files = read_disk(machine_seed.disk(new_spec(new_consumer()), SEEDS, "9.9.9.9"))
    assert set(files) == {"meta-data", "user-data", "network-config"}
    (interface,) = json.loads(files["network-config"])["ethernets"].values()
    assert interface["nameservers"] == {"addresses": ["9.9.9.9"]}
    assert (interface["dhcp4"], interface["dhcp4-overrides"]) == (True, {"use-dns": False})


def test_seeds_do_not_show_themselves():
    assert repr(SEEDS) == "Seeds()"
