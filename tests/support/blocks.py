"""One well-formed block of each type, good or bad by the rules, and its parts."""

from typing import Any

from xnode.core import blocks as subject
from xnode.core.attestations import Attestation
from xnode.core.blocks import (
    BODIES,
    COMMON,
    KEYSET_TYPES,
    Block,
    BlockType,
    Claim,
    Lease,
    LeaseAccept,
    LeaseForceSettle,
    LeaseSettle,
    MultisigOpen,
    MultisigUpdate,
    Send,
    encode_block,
)
from xnode.core.codec import decode
from xnode.core.hashing import NetworkKey
from xnode.core.keyset import Keyset, KeySignature
from xnode.core.values import Address, Asset, Hash, PublicKey, Signature

NETWORK = NetworkKey(b"n" * 32)
ALICE, BOB = Address(b"a" * 32), Address(b"b" * 32)
WORD = Attestation(PublicKey(b"t" * 32), 7, Signature(b"s" * 64))
KEYSET = Keyset((PublicKey(b"j" * 32), PublicKey(b"k" * 32), PublicKey(b"l" * 32)), 2)
SIGNED = tuple(KeySignature(key, Signature(b"g" * 64)) for key in KEYSET.keys[:2])
EXAMPLES: dict[BlockType, Block] = {
    kind: Block(kind, ALICE, Hash(b"p" * 32), Asset.XUSD, 5, BOB, 9, body, Signature(b"g" * 64), 11)
    for kind, body in {
        BlockType.SEND: Send(BOB, 1),
        BlockType.RECEIVE: subject.Receive(Hash(b"s" * 32)),
        BlockType.CLAIM: Claim(),
        BlockType.LEASE: Lease(BOB, 1, 2, 3, 4, 5, PublicKey(b"k" * 32), Hash(b"c" * 32), 1000),
        BlockType.LEASE_ACCEPT: LeaseAccept(
            Hash(b"s" * 32), 1, Hash(b"c" * 32), PublicKey(b"h" * 32), (WORD, WORD._replace(timestamp=8))
        ),
        BlockType.LEASE_SETTLE: LeaseSettle(Hash(b"s" * 32), 1, (WORD,)),
        BlockType.LEASE_CANCEL: subject.LeaseCancel(Hash(b"s" * 32)),
        BlockType.LEASE_FORCE_SETTLE: LeaseForceSettle(Hash(b"s" * 32), (WORD,)),
        BlockType.MULTISIG_OPEN: MultisigOpen(KEYSET),
        BlockType.MULTISIG_UPDATE: MultisigUpdate(KEYSET),
    }.items()
}
EXAMPLES |= {kind: EXAMPLES[kind]._replace(signature=Signature(bytes(64)), signatures=SIGNED) for kind in KEYSET_TYPES}


def elements(block: Block) -> list[Any]:
    """The elements of its wire form."""
    return list(decode(encode_block(block)))


def names_of(kind: BlockType) -> tuple[str, ...]:
    """The names of the elements of its wire form."""
    signed = "signatures" if kind in KEYSET_TYPES else "signature"
    return (*COMMON, *BODIES[kind]._fields, signed, "work")
