"""The libp2p name of an ed25519 identity, computed without loading libp2p (libp2p specs, peer-ids)."""

from typing import Final

import base58

from xnode.core.keys import SigningKey

# An identity multihash (0x00) of 36 bytes (0x24) around the protobuf {type: Ed25519, data: 32 bytes}.
PREFIX: Final = bytes.fromhex("0024") + bytes.fromhex("08011220")


def peer_id_of(seed: bytes) -> str:
    """The peer id of the identity with this 32-byte seed: `12D3KooW...`."""
    return base58.b58encode(PREFIX + SigningKey(seed).public_key).decode()
