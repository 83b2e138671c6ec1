"""The keys that Lima knows, with their types, and the rules of its own `Validate` for what a driver may write.

Only names and types, read from Lima's pkg/limatype/lima_yaml.go (lima-vm/lima, version 2, commit 00f45c30e3ea,
Apache-2.0). Real Lima warns of an unknown key and goes on; here it is an error, so that a typo fails a test.
"""

import json
import re
from typing import Any, NamedTuple

STRUCTS: dict[str, dict[str, Any]] = {
    "file": {"location": str, "arch": str, "digest": str},
    "kernel": {"location": str, "arch": str, "digest": str, "cmdline": str},
    "locator": {"url": str, "digest": str},
    "rosetta": {"enabled": bool, "binfmt": bool},
    "qemu": {"minimumVersion": str, "cpuType": {str: str}},
    "provision": {
        "mode": str, "skipDefaultDependencyResolution": bool, "script": str, "file": "locator", "playbook": str,
        "content": str, "overwrite": bool, "owner": str, "path": str, "permissions": str, "expression": str,
        "format": str,
    },
    "image": {"location": str, "arch": str, "digest": str, "kernel": "kernel", "initrd": "file"},
    "mount": {
        "location": str, "mountPoint": str, "writable": bool, "sshfs": {str: object}, "9p": {str: object},
        "virtiofs": {str: object},
    },
    "disk": {"name": str, "format": bool, "fsType": str, "fsArgs": [str]},
    "network": {"lima": str, "socket": str, "vzNAT": bool, "macAddress": str, "interface": str, "metric": int},
    "document": {
        "base": ["locator"], "minimumLimaVersion": str, "vmType": str, "os": str, "arch": str, "images": ["image"],
        "vmOpts": {"qemu": "qemu", "vz": {"rosetta": "rosetta"}}, "cpuType": {str: str}, "cpus": int, "memory": str,
        "disk": str, "additionalDisks": ["disk"], "mounts": ["mount"], "mountTypesUnsupported": [str],
        "mountType": str, "mountInotify": bool,
        "ssh": {
            "address": str, "localPort": int, "loadDotSSHPubKeys": bool, "forwardAgent": bool, "forwardX11": bool,
            "forwardX11Trusted": bool,
        },
        "firmware": {"legacyBIOS": bool, "images": ["file"]}, "audio": {"device": str},
        "video": {"display": str, "vnc": {"display": str}}, "provision": ["provision"], "upgradePackages": bool,
        "containerd": {"system": bool, "user": bool, "archives": ["file"]}, "guestInstallPrefix": str,
        "probes": [{"mode": str, "description": str, "script": str, "file": "locator", "hint": str}],
        "portForwards": [{str: object}], "copyToHost": [{"guest": str, "host": str, "deleteOnStop": bool}],
        "message": str, "networks": ["network"], "env": {str: str}, "param": {str: str}, "dns": [str],
        "hostResolver": {"enabled": bool, "ipv6": bool, "hosts": {str: str}}, "propagateProxyEnv": bool,
        "caCerts": {"removeDefaults": bool, "files": [str], "certs": [str]}, "rosetta": "rosetta", "plain": bool,
        "timezone": str, "nestedVirtualization": bool,
        "user": {"name": str, "comment": str, "home": str, "shell": str, "uid": int},
    },
}  # fmt: skip
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKmMgGtTpP]?)(?:i?[bB])?")


class Refused(Exception):
    """What limactl would end with, status 1."""


class Shape(NamedTuple):
    """What the double needs of a document; sizes in bytes."""

    image: str
    cpus: int
    memory: int
    disk: int
    user: str


def parse(text: str) -> dict[str, Any]:
    """Reads the part of YAML that the driver writes: one key a line, its value in JSON."""
    document: dict[str, Any] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(": ")
        try:
            if not separator or key in document:
                raise ValueError("not `key: value`, or twice")
            document[key] = json.loads(value)
        except ValueError as error:
            raise Refused(f"failed to unmarshal YAML: line {line!r}: {error}") from error
    return document


def check(document: dict[str, Any]) -> Shape:
    """Holds a document against Lima's types and rules; raises Refused."""
    _match(document, "document", "")
    if not document.get("images"):
        raise Refused("field `images` must be set")
    for index, image in enumerate(document["images"]):
        if image.get("arch") not in ("x86_64", "aarch64"):
            raise Refused(f"field `images[{index}].arch` must be one of the architectures")
        if (digest := image.get("digest")) and not re.fullmatch(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", digest):
            raise Refused(f"field `images[{index}].digest` is invalid: {digest}")
    if document.get("cpus", 4) <= 0:
        raise Refused("field `cpus` must be set")
    if document.get("vmType", "qemu") not in ("qemu", "vz", "wsl2"):
        raise Refused(f"field `vmType` must be one of qemu, vz, wsl2, got {document['vmType']!r}")
    if not 0 <= document.get("ssh", {}).get("localPort", 0) < 65536:
        raise Refused("field `ssh.localPort` must be > 0 and < 65536")
    user = document.get("user", {})
    if not user.get("shell", "/bin/bash").startswith("/") or not user.get("home", "/home/x").startswith("/"):
        raise Refused("fields `user.home` and `user.shell` must be absolute paths")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]*", user.get("name", "lima")):
        raise Refused("field `user.name` must be a valid user name")
    return Shape(
        image=document["images"][0]["location"],
        cpus=document.get("cpus", 4),
        memory=_size(document.get("memory", "4GiB"), "memory"),
        disk=_size(document.get("disk", "100GiB"), "disk"),
        user=user.get("name", "lima"),
    )


def _match(value: Any, wanted: Any, where: str) -> None:
    if isinstance(wanted, str):
        wanted = STRUCTS[wanted]
    if wanted is object:
        return
    if isinstance(wanted, list):
        if not isinstance(value, list):
            raise Refused(f"field `{where}` must be a list")
        for index, item in enumerate(value):
            _match(item, wanted[0], f"{where}[{index}]")
    elif isinstance(wanted, dict):
        _match_struct(value, wanted, where)
    elif type(value) is not wanted:
        raise Refused(f"field `{where}` must be of type {wanted.__name__}, got {value!r}")


def _match_struct(value: Any, wanted: dict[Any, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise Refused(f"field `{where}` must be a mapping")
    for key, item in value.items():
        if key not in wanted and str not in wanted:
            raise Refused(f"unknown field `{where}.{key}`".replace("`.", "`"))
        _match(item, wanted.get(key, wanted.get(str)), f"{where}.{key}".lstrip("."))


def _size(text: str, name: str) -> int:
    found = SIZE.fullmatch(text)
    if not found:
        raise Refused(f"field `{name}` has an invalid value: invalid size: {text!r}")
    return int(float(found[1]) * 1024 ** " kmgtp".index(found[2].lower() or " "))
