"""What a machine is told at its first boot: its name, who may log in, its SSH host key.

Direct-kernel guests get an archive behind their initrd; images that boot themselves get a disk for cloud-init, its data
source NoCloud: a small ISO 9660 file system labelled `cidata`, made in memory by pycdlib. Its files are JSON, which is
YAML too, so nothing in them can be taken for anything else. Either holds the host key: 0600, QEMU's user only.
"""

import io
import json
from collections.abc import Callable
from typing import Final, NamedTuple

from pycdlib import PyCdlib

from xnode.core.machine import MachineSpec, machine_name
from xnode.vm import cpio, ssh_keys
from xnode.vm.images import MARKER
from xnode.vm.qemu_command import MAC

_LABEL: Final = "cidata"
_SERIAL: Final = "/dev/ttyS0"


class Seeds(NamedTuple):
    """The private keys of one machine, 32 bytes each: the provider's own login and the SSH host key."""

    provider: bytes
    host: bytes
    random: Callable[[int], bytes]

    def __repr__(self) -> str:
        """Without the secrets."""
        return "Seeds()"


def archive(spec: MachineSpec, seeds: Seeds) -> bytes:
    """The archive behind the initrd."""
    lines = "".join(line + "\n" for line in _keys(spec, seeds))
    return cpio.write_archive(
        (
            cpio.directory("seed", 0o700),
            cpio.regular("seed/authorized_keys", lines.encode(), 0o600),
            cpio.regular("seed/host_key", ssh_keys.dropbear_private(seeds.host), 0o600),
            cpio.regular("seed/hostname", machine_name(spec.lease_hash).encode() + b"\n", 0o600),
        )
    )


def disk(spec: MachineSpec, seeds: Seeds, resolver: str = "") -> bytes:
    """The seed disk's bytes; `resolver` is that of a machine with internet, "" leaves all to the image."""
    name = machine_name(spec.lease_hash)
    meta = {"instance-id": spec.lease_hash.hex(), "local-hostname": name}
    files = {
        "meta-data": json.dumps(meta).encode(),
        "user-data": b"#cloud-config\n" + json.dumps(_user_data(spec, seeds), indent=1).encode() + b"\n",
    }
    return _iso(files | ({"network-config": json.dumps(_network(resolver)).encode()} if resolver else {}))


def _network(resolver: str) -> dict[str, object]:
    """Addresses by DHCP, as without it, but for the resolver that DHCP names: that would be the host's own."""
    interface = {
        "match": {"macaddress": MAC},
        "set-name": "eth0",
        "dhcp4": True,
        "dhcp4-overrides": {"use-dns": False},
        "nameservers": {"addresses": [resolver]},
    }
    return {"version": 2, "ethernets": {"eth0": interface}}


def _user_data(spec: MachineSpec, seeds: Seeds) -> dict[str, object]:
    """Root may log in as in every other guest, and so may the image's own user, who has sudo."""
    host_key = ssh_keys.public_line(ssh_keys.public_key_of(seeds.host))
    return {
        "hostname": machine_name(spec.lease_hash),
        "users": ["default"],
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": _keys(spec, seeds),
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": ssh_keys.openssh_private(seeds.host, seeds.random),
            "ed25519_public": host_key,
        },
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": True,
        "bootcmd": [["sh", "-c", f"echo {MARKER.decode()} >{_SERIAL}"]],
    }


def _keys(spec: MachineSpec, seeds: Seeds) -> list[str]:
    consumers = () if spec.is_spare else (spec.access_key,)
    return [ssh_keys.public_line(key) for key in (*consumers, ssh_keys.public_key_of(seeds.provider))]


def _iso(files: dict[str, bytes]) -> bytes:
    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=_LABEL)
    for number, (name, data) in enumerate(files.items()):
        iso.add_fp(io.BytesIO(data), len(data), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()
