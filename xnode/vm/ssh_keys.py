"""ed25519 keys in the forms that SSH programs read. The caller's text never goes into any of them.

Formats: RFC 8709 (public key blob), OpenSSH's PROTOCOL.key (private key file), dropbear's key file.
"""

import base64
import hashlib
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from xnode.core.values import PublicKey

KEY_TYPE: Final = "ssh-ed25519"
_SEED_BYTES: Final = 32
_CHECK_BYTES: Final = 4
_COLUMNS: Final = 70


def public_key_of(seed: bytes) -> PublicKey:
    """The public half of the private key made from a 32-byte seed."""
    return PublicKey(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


def public_line(key: PublicKey) -> str:
    """`ssh-ed25519 AAAA...`, as it stands in authorized_keys, without a line end."""
    return f"{KEY_TYPE} {base64.b64encode(_public_blob(key)).decode()}"


def known_hosts_line(host: str, port: int, key: PublicKey) -> str:
    """The line that makes a client's first connection strict, without a line end."""
    name = host if port == 22 else f"[{host}]:{port}"
    return f"{name} {public_line(key)}"


def fingerprint(key: PublicKey) -> str:
    """`SHA256:...` as SSH programs show it."""
    digest = hashlib.sha256(_public_blob(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def openssh_private(seed: bytes, random: Callable[[int], bytes]) -> str:
    """The unencrypted private key file of OpenSSH (mode 0600 is the caller's duty)."""
    public = public_key_of(seed)
    check = random(_CHECK_BYTES)
    secret = check + check + _string(KEY_TYPE.encode()) + _string(public) + _string(seed + public) + _string(b"")
    secret += bytes(range(1, 1 + -len(secret) % 8))
    no_cipher = _string(b"none") + _string(b"none") + _string(b"")
    blob = b"openssh-key-v1\0" + no_cipher + (1).to_bytes(4, "big") + _string(_public_blob(public)) + _string(secret)
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + _COLUMNS] for start in range(0, len(text), _COLUMNS)]
    return "\n".join(("-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""))


def dropbear_private(seed: bytes) -> bytes:
    """The host key file of dropbear."""
    return _string(KEY_TYPE.encode()) + _string(seed + public_key_of(seed))


def new_seed(random: Callable[[int], bytes]) -> bytes:
    """A fresh private key."""
    return random(_SEED_BYTES)


def _public_blob(key: PublicKey) -> bytes:
    return _string(KEY_TYPE.encode()) + _string(key)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
