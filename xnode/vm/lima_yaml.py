"""The YAML from which Lima makes an instance. Pure. Nothing in it is secret, and nothing of it is a consumer's text.

Lima only warns of a key that it does not know, so the keys are held against Lima's own by tests/support/limactl.
"""

import json
from typing import Final, NamedTuple

USER: Final = "guest"
_LEAST_VERSION: Final = "2.0.0"
_ARCHITECTURE: Final = "x86_64"


class Instance(NamedTuple):
    """What differs from machine to machine; memory in MiB, disk in GiB."""

    vcpus: int
    memory_mb: int
    disk_gb: int
    image: str
    image_digest: str


def render(instance: Instance) -> str:
    """The document: one key a line, each value in JSON, which is YAML too. `plain` spares all that Lima adds to a
    guest; no directory of the host is mounted, and neither its keys, its proxies nor its names get in."""
    image = {"location": instance.image, "arch": _ARCHITECTURE}
    if instance.image_digest:
        image["digest"] = instance.image_digest
    document: dict[str, object] = {
        "minimumLimaVersion": _LEAST_VERSION,
        "vmType": "qemu",
        "os": "Linux",
        "arch": _ARCHITECTURE,
        "images": [image],
        "cpus": instance.vcpus,
        "memory": f"{instance.memory_mb}MiB",
        "disk": f"{instance.disk_gb}GiB",
        "plain": True,
        "mounts": [],
        "containerd": {"system": False, "user": False},
        "ssh": {"localPort": 0, "loadDotSSHPubKeys": False, "forwardAgent": False},
        "user": {"name": USER, "home": f"/home/{USER}", "shell": "/bin/bash"},
        "propagateProxyEnv": False,
        "hostResolver": {"enabled": False},
        "vmOpts": {"qemu": {"cpuType": {_ARCHITECTURE: "max"}}},
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items())
