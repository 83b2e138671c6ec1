"""ed25519 by libsodium (PyNaCl), the one verifier everywhere: another library answers differently at the edges, so
exchanging it would be a change of consensus (tests/core/test_keys.py freezes its answers)."""

from typing import Final

import nacl.bindings
import nacl.exceptions
import nacl.signing

from xnode.core.faults import OperatorFault
from xnode.core.values import PublicKey, Signature

SEED_BYTES: Final = 32


class SigningKey:
    """An ed25519 private key made from its 32-byte seed. It never shows its seed in a repr."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise OperatorFault(
                "bad_seed", f"a key's seed must be {SEED_BYTES} bytes; make a new one with `xnode init`"
            )
        self._key = nacl.signing.SigningKey(seed)
        self.public_key = PublicKey(bytes(self._key.verify_key))

    def sign(self, message: bytes) -> Signature:
        """64 bytes, deterministic."""
        return Signature(self._key.sign(message).signature)

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key.hex()})"


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether libsodium accepts the signature; wrong lengths are simply false."""
    if len(public_key) != nacl.bindings.crypto_sign_PUBLICKEYBYTES or len(signature) != nacl.bindings.crypto_sign_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def is_valid_point(public_key: bytes) -> bool:
    """Whether the 32 bytes are a canonical point of the main subgroup: not of small order, not off the curve."""
    return len(public_key) == nacl.bindings.crypto_core_ed25519_BYTES and bool(
        nacl.bindings.crypto_core_ed25519_is_valid_point(public_key)
    )
