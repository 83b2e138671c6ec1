"""The tunnel's handshake and the access proof of an HTTP tunnel request (protocol section 12).

Theory of operation. A client names a lease, the provider answers with a random challenge, the client
signs both with a key that the lease admits, the provider dials the machine and answers one byte. The
provider's side is a value, `Handshake`, that moves through the steps of one table and never back, so a
challenge is answered at most once, right or wrong. What the client is told is a `TunnelAnswer`: 0 opens
the tunnel, every other number is a named refusal, followed by a text. An unknown lease is refused only
after the signature, so that the first two messages are the same for every lease.
"""

from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from xnode.core.access import UsedProofs, check_timestamp, find_signer
from xnode.core.faults import Ended, Fault, NotAllowed, NotFound, PeerFault, Unavailable, WrongState
from xnode.core.hashing import NetworkKey, Tag, tagged_hash
from xnode.core.keys import verify
from xnode.core.values import HASH_BYTES, SIGNATURE_BYTES, ZERO_HASH, Hash, PublicKey, Signature

CHALLENGE_BYTES: Final = 32
REFUSAL_TEXT_BYTES_MAX: Final = 1024


class TunnelAnswer(IntEnum):
    """The byte that ends the handshake; everything but OPEN is followed by a text for people."""

    OPEN = 0
    MALFORMED = 1
    UNKNOWN_LEASE = 2
    LEASE_ENDED = 3
    NOT_ALLOWED = 4
    NOT_RUNNING = 5
    BUSY = 6
    UNREACHABLE = 7


class Step(StrEnum):
    """Where the provider's side of a handshake stands."""

    GREETING = "greeting"  # waits for the lease hash
    CHALLENGED = "challenged"  # waits for the signature
    DIALLING = "dialling"  # connects to the machine
    OPEN = "open"
    REFUSED = "refused"


class TunnelEvent(StrEnum):
    """What moves a handshake."""

    NAMED = "named"
    PROVED = "proved"
    DIALLED = "dialled"
    FAILED = "failed"


TRANSITIONS: Final = {
    (Step.GREETING, TunnelEvent.NAMED): Step.CHALLENGED,
    (Step.GREETING, TunnelEvent.FAILED): Step.REFUSED,
    (Step.CHALLENGED, TunnelEvent.PROVED): Step.DIALLING,
    (Step.CHALLENGED, TunnelEvent.FAILED): Step.REFUSED,
    (Step.DIALLING, TunnelEvent.DIALLED): Step.OPEN,
    (Step.DIALLING, TunnelEvent.FAILED): Step.REFUSED,
}


class Handshake(NamedTuple):
    """The provider's side of one tunnel; `answer` and `text` count once it is over."""

    step: Step = Step.GREETING
    lease_hash: Hash = ZERO_HASH
    challenge: bytes = b""
    answer: TunnelAnswer = TunnelAnswer.OPEN
    text: str = ""


def _move(state: Handshake, event: TunnelEvent) -> Step:
    step = TRANSITIONS.get((state.step, event))
    if step is None:
        raise WrongState("tunnel_step", f"a handshake that is {state.step} can't be {event}; start a new one")
    return step


def on_lease_hash(state: Handshake, data: bytes, challenge: bytes) -> Handshake:
    """The client has named its lease; `challenge` must be fresh random bytes, which are sent to it."""
    if len(data) != HASH_BYTES or len(challenge) != CHALLENGE_BYTES:
        return refuse(state, TunnelAnswer.MALFORMED, f"a lease hash has {HASH_BYTES} bytes")
    step = _move(state, TunnelEvent.NAMED)
    return state._replace(step=step, lease_hash=Hash(data), challenge=challenge)


def on_signature(state: Handshake, network_key: NetworkKey, keys: Sequence[PublicKey], signature: bytes) -> Handshake:
    """The client has signed: DIALLING when one of `keys` did it, else REFUSED. Spends the challenge."""
    step = _move(state, TunnelEvent.PROVED)
    if len(signature) != SIGNATURE_BYTES:
        return refuse(state, TunnelAnswer.MALFORMED, f"a signature has {SIGNATURE_BYTES} bytes")
    message = tunnel_message(network_key, state.lease_hash, state.challenge)
    if not any(verify(key, message, signature) for key in keys):
        why = "sign with the lease's access key or its consumer's account"
        return refuse(state, TunnelAnswer.NOT_ALLOWED, why)
    return state._replace(step=step)


def on_dialled(state: Handshake) -> Handshake:
    """The machine has answered the dial: the tunnel is open."""
    return state._replace(step=_move(state, TunnelEvent.DIALLED))


def refuse(state: Handshake, answer: TunnelAnswer, text: str) -> Handshake:
    """Ends a handshake that is not over yet; `text` says to the client what to do."""
    return state._replace(step=_move(state, TunnelEvent.FAILED), answer=answer, text=text)


def on_fault(state: Handshake, fault: Fault) -> Handshake:
    """Ends a handshake for a fault of this node, its machine or the client."""
    return refuse(state, _answer_of(fault), str(fault))


def answer_bytes(state: Handshake) -> bytes:
    """What the client is sent at the end: 1 byte, and up to 1 KiB of UTF-8 text unless the tunnel is open."""
    text = clip_text(state.text, REFUSAL_TEXT_BYTES_MAX)
    return bytes([state.answer]) + text.encode()


def clip_text(text: str, bytes_max: int) -> str:
    """The text without control characters, cut to `bytes_max` bytes of UTF-8 between characters."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean.encode(errors="replace")[:bytes_max].decode(errors="ignore")


def tunnel_message(network_key: NetworkKey, lease_hash: Hash, challenge: bytes) -> bytes:
    """The 32 bytes that the client signs: keyed hash of tag `tunnel` || lease hash || challenge."""
    return tagged_hash(network_key, Tag.TUNNEL, lease_hash + challenge)


def access_message(network_key: NetworkKey, lease_hash: Hash, timestamp: int) -> bytes:
    """The 32 bytes under `X-Access-Signature`: keyed hash of tag `access` || lease hash || timestamp.

    The timestamp is in ns, 8 bytes big-endian.
    """
    return tagged_hash(network_key, Tag.ACCESS, lease_hash + timestamp.to_bytes(8, "big"))


_ANSWERS: Final = (
    (NotFound, TunnelAnswer.UNKNOWN_LEASE),
    (Ended, TunnelAnswer.LEASE_ENDED),
    (NotAllowed, TunnelAnswer.NOT_ALLOWED),
    (WrongState, TunnelAnswer.NOT_RUNNING),
    (Unavailable, TunnelAnswer.BUSY),
)


def _answer_of(fault: Fault) -> TunnelAnswer:
    return next((answer for kind, answer in _ANSWERS if isinstance(fault, kind)), TunnelAnswer.UNREACHABLE)


_FAULTS: Final[dict[int, tuple[type[Fault], str]]] = {
    TunnelAnswer.UNKNOWN_LEASE: (NotFound, "lease_unknown"),
    TunnelAnswer.LEASE_ENDED: (Ended, "lease_ended"),
    TunnelAnswer.NOT_ALLOWED: (NotAllowed, "tunnel_not_allowed"),
    TunnelAnswer.NOT_RUNNING: (WrongState, "not_running"),
    TunnelAnswer.BUSY: (Unavailable, "tunnel_busy"),
}


def fault_of(answer: int, text: bytes) -> Fault:
    """The client's fault for a refusal that it was sent; the provider's `text` comes out printable."""
    kind, code = _FAULTS.get(answer, (PeerFault, "tunnel_refused"))
    message = clip_text(text.decode(errors="replace"), REFUSAL_TEXT_BYTES_MAX)
    return kind(code, message or f"the provider refused the tunnel with answer {answer}")


def check_access(
    network_key: NetworkKey,
    lease_hash: Hash,
    keys: Sequence[PublicKey],
    signature: Signature,
    timestamp: int,
    now: int,
    used: UsedProofs,
) -> None:
    """Passes an HTTP tunnel request's own proof once; times in ns. Raises NotAllowed, or Unavailable."""
    check_timestamp(timestamp, now)
    message = access_message(network_key, lease_hash, timestamp)
    used.add(message + find_signer(keys, message, signature), timestamp, now)
