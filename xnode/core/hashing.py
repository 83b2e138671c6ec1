"""Keyed BLAKE3 with a tag that names what is hashed (protocol section 1).

Nothing hashed on one network, or for one purpose, equals a hash of another: the key is the network's, the tag the
purpose's. Records start with a msgpack array byte (0x90 or above), tags are ASCII, so no tag runs into its record.
"""

from enum import StrEnum
from typing import Final, NewType

from blake3 import blake3

from xnode.core.values import Hash

NetworkKey = NewType("NetworkKey", bytes)  # 32 bytes

KEY_CONTEXT = "xnode network v1"


class Tag(StrEnum):
    """What is being hashed."""

    GENESIS = "genesis"
    BLOCK = "block"
    VOTE = "vote"
    STATE = "state"
    KEYSET = "keyset"
    AD = "ad"
    REQUEST = "request"
    OFFER = "offer"
    REFUSAL = "refusal"
    DIRECTORY = "directory"
    CERTIFICATE = "certificate"
    FRONTIERS = "frontiers"
    TUNNEL = "tunnel"
    ACCESS = "access"
    MACHINE = "machine"


_TAG_BYTES: Final = {tag: tag.value.encode() for tag in Tag}


def derive_network_key(canonical_genesis: bytes) -> NetworkKey:
    """The network's key (section 1)."""
    return NetworkKey(blake3(canonical_genesis, derive_key_context=KEY_CONTEXT).digest())


def tagged_hash(key: NetworkKey, tag: Tag, data: bytes) -> Hash:
    """32 bytes: BLAKE3 keyed with the network key over tag || data."""
    return Hash(blake3(_TAG_BYTES[tag] + data, key=key).digest())
