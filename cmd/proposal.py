"""A multisig account's next block as a file that goes from hand to hand until enough have signed it."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from xnode.core.authority import signers_needed
from xnode.core.blocks import Block, block_from_json, block_hash, block_to_json
from xnode.core.faults import CallerFault
from xnode.core.genesis import Genesis
from xnode.core.keys import SigningKey
from xnode.core.keyset import (
    Keyset,
    KeySignature,
    all_verify,
    join_signatures,
    keyset_from_json,
    keyset_to_json,
)
from xnode_cmd.output import show_duration

FILE_BYTES_MAX: Final = 64 * 1024
FIELDS: Final = {"genesis_hash", "keyset", "block"}
NS: Final = 1_000_000_000


class Proposal(NamedTuple):
    """An unfinished block, and the keyset that was in force when it was proposed."""

    keyset: Keyset
    block: Block

    @property
    def needed(self) -> int:
        """How many must sign it."""
        return signers_needed(self.block.type, self.keyset)

    @property
    def missing(self) -> int:
        """How many more must sign it."""
        return max(0, self.needed - len(self.block.signatures or ()))

    def sign(self, genesis: Genesis, key: SigningKey) -> "Proposal":
        """With this key's signature too; raises click.ClickException where it has no part in it, or all have signed."""
        signed = {item.public_key for item in self.block.signatures or ()}
        if key.public_key not in self.keyset.keys:
            raise click.ClickException(f"the key {key.public_key.hex()} is not in the account's keyset")
        if key.public_key in signed:
            raise click.ClickException("this key has signed it already; pass the file on to another one")
        if not self.missing:
            raise click.ClickException(f"{self.needed} have signed it, which is enough; submit it")
        one = KeySignature(key.public_key, key.sign(block_hash(genesis.network_key, self.block)))
        return self._replace(block=self.block._replace(signatures=join_signatures(self.block.signatures or (), [one])))

    def lines(self, genesis: Genesis, now: int) -> list[str]:
        """What it does and who has signed, for people; `now` in ns."""
        document: dict[str, Any] = block_to_json(self.block)
        skipped = {"type", "previous", "signatures", "work", "timestamp", "keyset"}
        lines = [f"{document['type']}"] + [f"  {key}: {value}" for key, value in document.items() if key not in skipped]
        if "keyset" in document:
            lines.append(f"  new keyset: {document['keyset']['threshold']} of {', '.join(document['keyset']['keys'])}")
        signed = {item.public_key for item in self.block.signatures or ()}
        lines += [f"  {'signed ' if key in signed else 'waiting'} {key.hex()}" for key in self.keyset.keys]
        until = self.block.timestamp + genesis.timing.live_window * NS - now
        lines.append(f"  {len(signed)} of {self.needed} have signed; it must be submitted {_time_left(until)}")
        return lines


def _time_left(until: int) -> str:
    return f"within {show_duration(until / NS)}" if until > 0 else "now, and is too old: propose it anew"


def write_proposal(path: Path, genesis: Genesis, proposal: Proposal) -> None:
    """Writes or replaces the file."""
    document = {
        "genesis_hash": genesis.genesis_hash.hex(),
        "keyset": keyset_to_json(proposal.keyset),
        "block": block_to_json(proposal.block),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def read_proposal(path: Path, genesis: Genesis) -> Proposal:
    """The file's proposal, every signature checked; raises click.ClickException that says what is wrong with it."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise click.ClickException(f"{path} is too large for a proposal")
        document = json.loads(path.read_text())
    except OSError as error:
        raise click.ClickException(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(f"{path} is no proposal: not JSON") from error
    if not isinstance(document, dict) or set(document) != FIELDS:
        raise click.ClickException(f"{path} is no proposal; `xnode multisig open`, send and update make one")
    if document["genesis_hash"] != genesis.genesis_hash.hex():
        raise click.ClickException(f"{path} is for another network than this data directory's")
    try:
        proposal = Proposal(keyset_from_json(document["keyset"]), block_from_json(document["block"]))
    except CallerFault as fault:
        raise click.ClickException(f"{path} is damaged: {fault}") from fault
    _check_signatures(path, genesis, proposal)
    return proposal


def _check_signatures(path: Path, genesis: Genesis, proposal: Proposal) -> None:
    signatures = proposal.block.signatures
    if signatures is None:
        raise click.ClickException(f"{path} has the block of an account of one key")
    is_ours = all(item.public_key in proposal.keyset.keys for item in signatures)
    if not is_ours or not all_verify(block_hash(genesis.network_key, proposal.block), signatures):
        raise click.ClickException(f"{path} was changed after it was signed; propose it anew")
