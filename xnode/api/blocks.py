"""Blocks: one, the latest, and submitting a signed one."""

from typing import Final

from xnode.api.calls import Api, Asked, Call
from xnode.api.parse import LIMIT, path_hash
from xnode.api.render import BLOCK, block_json, fate_json
from xnode.api.schema import HEX32, INTEGER, OBJECT, listing, record, word
from xnode.core.blocks import block_from_json, block_hash
from xnode.core.faults import CallerFault, NotFound, Unavailable
from xnode.core.ledger import GAPS, Outcome
from xnode.roles.block_times import Stage

RULES: Final = {
    Outcome.FORK: (
        "another block of this account stands at its place; unless that one is confirmed the network votes on "
        "which one stays (GET /conflicts); build on the account's frontier"
    ),
    Outcome.GAP_PREVIOUS: "the block before it is not here yet; send that one first, or ask again soon",
    Outcome.GAP_SOURCE: "the block that it refers to is not here yet; send that one first, or ask again soon",
    Outcome.BAD_WORK: "its work is too little for its root; search for more",
    Outcome.BAD_SIGNATURE: "it is not signed by its account; sign its hash with the account's key or keyset",
    Outcome.BAD_TIMESTAMP: "its timestamp is too far from now; sign it anew",
    Outcome.NOT_OPEN: "a multisig account opens first, with multisig_open",
    Outcome.ALREADY_OPEN: "the account is open already; change its keyset with multisig_update",
    Outcome.BAD_QUORUM: (
        "it is not signed by exactly as many keys of the account's keyset as it asks for: one to receive, the "
        "threshold for all else (GET /accounts/{address} shows the keyset)"
    ),
    Outcome.BAD_REPRESENTATIVE: (
        "a multisig account casts no votes, so it names another representative; and one key that receives names none"
    ),
    Outcome.NOT_A_PROVIDER: "a multisig account can't accept a lease; host machines by an account of one key",
    Outcome.BAD_ASSET: "this type of block, or what it refers to, is for the other asset; use that one",
    Outcome.BAD_BALANCE: "its balance does not follow from the one before it; take that of the account's frontier",
    Outcome.BAD_AMOUNT: "its amount is zero, or not what the price formula gives; compute it by the network's rates",
    Outcome.BAD_DESTINATION: "its destination is its own account, or one that can't sign; name another",
    Outcome.BAD_RESOURCES: "it asks for no resources, or for more than the limit; ask for at least one, within",
    Outcome.BAD_DURATION: "its duration is outside the network's range; choose one within it",
    Outcome.BAD_MULTIPLIER: "its multiplier is outside 500 to 10000; choose one within",
    Outcome.BAD_KEY: "its SSH key, or one of its keyset, is no ed25519 public key; give a real one",
    Outcome.BAD_ATTESTATIONS: "too few of its attestations are valid, or they are off; ask the timekeepers again",
    Outcome.BAD_TIME: "the attested time is too early or too late for this step; look at the lease's expiry and grace",
    Outcome.INSUFFICIENT: "it spends more than the account has; receive what is pending, or spend less",
    Outcome.NOT_YOURS: "its account is not the one that may do this; let the lease's other side sign",
    Outcome.WRONG_STATE: "the lease's state forbids it; look at the lease first",
    Outcome.RIVAL: (
        "a block of another account, not confirmed, has taken this step of the lease; the network votes on which one "
        "stays (GET /conflicts); look at the lease"
    ),
    Outcome.NO_SOURCE: "what it refers to has nothing for it, or no more; look at the pending entries, or the lease",
    Outcome.FAUCET_OFF: "this network has no faucet; ask somebody who has XUSD",
    Outcome.FAUCET_WAIT: "the account has claimed within the interval; wait",
    Outcome.OVERFLOW: "an amount leaves 64 bits; ask for less, or spend first",
}
GOOD: Final = (Outcome.PROGRESS, Outcome.OLD)


async def get_block(api: Api, asked: Asked) -> dict[str, object]:
    """One block with its place and status."""
    wanted = path_hash(asked.request, "block")
    with api.port.snapshot() as view:
        stored = view.block(wanted)
        if stored is not None:
            return block_json(view, stored)
    fate = api.port.fate(wanted)
    if fate is None:
        raise NotFound("block_unknown", f"block not found: this node's ledger has no block {wanted.hex()}")
    return fate_json(wanted, fate)


async def get_times(api: Api, asked: Asked) -> dict[str, object]:
    """When one of the last blocks went through each stage of voting at this node; 0 for what did not happen."""
    wanted = path_hash(asked.request, "block")
    times = api.port.block_times(wanted)
    if times is None:
        message = f"block not found: {wanted.hex()} is none of the last blocks that this node has seen"
        raise NotFound("block_unknown", message)
    return {str(stage): times.get(stage, 0) for stage in Stage}


async def list_recent(api: Api, asked: Asked) -> list[dict[str, object]]:
    """The last arrivals, newest first."""
    with api.port.snapshot() as view:
        return [block_json(view, stored) for stored in view.recent_blocks(asked.query["limit"])]


async def submit_block(api: Api, asked: Asked) -> dict[str, object]:
    """Offers a signed block to the ledger and to the network."""
    block = block_from_json(asked.body)
    outcome, detail = await api.bridge.call(api.port.submit_block, block)
    if outcome in GAPS:
        raise Unavailable(str(outcome), f"the block waits: {RULES[outcome]}", retryable=True)
    if outcome not in GOOD:
        rule = RULES.get(outcome, "it breaks a rule")
        raise CallerFault(str(outcome), f"the block is refused: {rule} ({detail})")
    return {"hash": block_hash(api.port.genesis.network_key, block).hex(), "outcome": str(outcome)}


CALLS: Final = (
    Call("GET", "/blocks/recent", "The last blocks", list_recent, listing(BLOCK), (400,), (LIMIT,), price=2),
    Call("GET", "/blocks/{hash}", "One block by its hash", get_block, BLOCK, (404,)),
    Call(
        "GET",
        "/blocks/{hash}/times",
        "When (ns) one of the last blocks was applied, voted for and confirmed here; 0: not, or not by this node",
        get_times,
        record(**{stage.value: INTEGER for stage in Stage}),
        (404,),
    ),
    Call(
        "POST",
        "/blocks",
        "Submit a signed block, in the JSON form that GET gives as `block`",
        submit_block,
        record(hash=HEX32, outcome=word(*GOOD)),
        (400, 503),
        body=OBJECT,
        price=5,
    ),
)
