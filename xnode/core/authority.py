"""Who may sign a block: the account's one key, or a threshold of its keyset (protocol sections 3 and 4).

Theory of operation. Half of the question can be answered by anybody: does each signature verify, and, in the block that
opens a multisig account, is the account the hash of the keyset that it carries, and did its threshold sign? The other
half needs the keyset in force, which is what the account's own chain says up to the block before. So that half is asked
once the block before is here, and the answer is the same on every node, for no other chain has a part in it.

| account    | signed by          | type          | must be |
|------------|--------------------|---------------|---------|
| one key    | signature          | any           | the account's key |
| unopened   | signatures         | multisig_open | exactly the threshold of the keyset that hashes to the account |
| multisig   | signatures         | receive       | exactly one of the keyset in force, and no representative |
| multisig   | signatures         | lease_accept  | refused: offers, ads and a machine's answers are signed by one key |
| multisig   | signatures         | any other     | exactly the threshold of the keyset in force |

A multisig account casts no votes, so it may not be its own representative.
"""

from xnode.core.blocks import KEYSET_TYPES, Block, BlockType, MultisigOpen
from xnode.core.hashing import NetworkKey
from xnode.core.keys import verify
from xnode.core.keyset import Keyset, all_verify, keyset_address, quorum_flaw
from xnode.core.ledger import AccountRecord, Outcome, Refusal
from xnode.core.values import Hash


def signers_needed(kind: BlockType, keyset: Keyset) -> int:
    """How many keys sign a block of this type: one to receive, the threshold for all else (section 4)."""
    return 1 if kind is BlockType.RECEIVE else keyset.threshold


def check_signatures(block: Block, identity: Hash, network_key: NetworkKey) -> Refusal | None:
    """What anybody can say of a block's signatures without the ledger: bad_signature or nothing."""
    if block.signatures is None:
        is_signed = block.type not in KEYSET_TYPES and verify(block.account, identity, block.signature)
        return None if is_signed else Refusal(Outcome.BAD_SIGNATURE, "not signed by its account")
    flaw = _open_flaw(block, network_key)
    if not flaw and not block.signatures:
        flaw = "nobody has signed it"
    if not flaw and not all_verify(identity, block.signatures):
        flaw = "one of its signatures is not its key's"
    return Refusal(Outcome.BAD_SIGNATURE, flaw) if flaw else None


def _open_flaw(block: Block, network_key: NetworkKey) -> str:
    body = block.body
    if not isinstance(body, MultisigOpen):
        return ""
    if keyset_address(network_key, body.keyset) != block.account:
        return "the account is not the hash of this keyset"
    return quorum_flaw(body.keyset, block.signatures or ())


def check_authority(block: Block, account: AccountRecord) -> Refusal | None:
    """The half that needs the keyset in force: not_open, already_open, bad_quorum, bad_representative, not_a_provider.

    `account` is the state before the block, which has passed `check_signatures`.
    """
    if account.keyset is None:
        return None if block.signatures is None else _check_opening(block, account)
    if block.type is BlockType.MULTISIG_OPEN:
        return Refusal(Outcome.ALREADY_OPEN, "the account is open; multisig_update changes its keyset")
    flaw = quorum_flaw(account.keyset, block.signatures or (), signers_needed(block.type, account.keyset))
    if flaw:
        return Refusal(Outcome.BAD_QUORUM, flaw)
    if block.type is BlockType.RECEIVE and block.representative is not None:
        return Refusal(Outcome.BAD_REPRESENTATIVE, "one key may receive, but not move the delegation")
    if block.type is BlockType.LEASE_ACCEPT:
        return Refusal(Outcome.NOT_A_PROVIDER, "a multisig account hosts no machines: offers are signed by one key")
    return _check_representative(block)


def _check_opening(block: Block, account: AccountRecord) -> Refusal | None:
    if block.type is not BlockType.MULTISIG_OPEN:
        return Refusal(Outcome.NOT_OPEN, "a multisig account's first block is multisig_open")
    if account.height > 0:
        return Refusal(Outcome.ALREADY_OPEN, "multisig_open is an account's first block")
    return _check_representative(block)


def _check_representative(block: Block) -> Refusal | None:
    if block.representative != block.account:
        return None
    return Refusal(Outcome.BAD_REPRESENTATIVE, "a multisig account casts no votes; name an account of one key")
