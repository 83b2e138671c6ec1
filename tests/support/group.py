"""People who hold a multisig account together, named like one: "2:ann,ben,cay" are three of whom two must sign."""

from typing import Any

from tests.support.ledger import Chain, address_of, find_work, key_of, public_key_of
from xnode.core.authority import signers_needed
from xnode.core.blocks import Block, BlockType, Body, MultisigOpen, MultisigUpdate, block_hash
from xnode.core.genesis import Genesis
from xnode.core.keyset import Keyset, KeySignature, keyset_address, make_keyset
from xnode.core.ledger import LedgerView
from xnode.core.values import Address, Asset

TRIO = "2:ann,ben,cay"
PEOPLE = ("ann", "ben", "cay", "dan", "eve", *(f"member-{number}" for number in range(16)))
NAMES = {public_key_of(name): name for name in PEOPLE}
VOTER = address_of("representative")


def keyset_of(group: str) -> Keyset:
    """The keyset of a group's name."""
    threshold, names = group.split(":")
    return make_keyset(map(public_key_of, names.split(",")), int(threshold))


def signed_by(genesis: Genesis, block: Block, *names: str) -> Block:
    """The block signed by these people, in the canonical order, with good work."""
    identity = block_hash(genesis.network_key, block)
    signatures = (KeySignature(public_key_of(name), key_of(name).sign(identity)) for name in names)
    work = find_work(block.work_root, genesis.work_difficulty)
    return block._replace(signatures=tuple(sorted(signatures)), work=work)


def signers_of(keyset: Keyset, kind: BlockType) -> list[str]:
    """Just as many of its people as must sign a block of this type."""
    return [NAMES[key] for key in keyset.keys[: signers_needed(kind, keyset)]]


class Group(Chain):
    """A chain whose blocks are signed by the keyset in force, or by the one that the group is named after."""

    @property
    def keyset(self) -> Keyset:
        """The keyset that opens the account."""
        return keyset_of(self.name)

    @property
    def address(self) -> Address:
        """The hash of that keyset."""
        return keyset_address(self.genesis.network_key, self.keyset)

    def next(self, view: LedgerView, body: Body, asset: Asset, delta: int, **changes: Any) -> Block:
        """The next block, signed by the keyset in force in this view."""
        block = super().next(view, body, asset, delta, **changes)
        in_force = self.record(view).keyset or self.keyset
        return signed_by(self.genesis, block, *signers_of(in_force, block.type))

    def sign(self, block: Block) -> Block:
        """Signed by the keyset that opened the account."""
        return signed_by(self.genesis, block, *signers_of(self.keyset, block.type))

    def open(self, view: LedgerView, keyset: Keyset | None = None, asset: Asset = Asset.XUSD, **changes: Any) -> Block:
        """The first block; with another keyset a bad one."""
        return self.next(view, MultisigOpen(keyset or self.keyset), asset, 0, **changes)

    def update(self, view: LedgerView, group: str, asset: Asset = Asset.XUSD, **changes: Any) -> Block:
        """Puts the keyset of another group in force."""
        return self.next(view, MultisigUpdate(keyset_of(group)), asset, 0, **changes)
