"""The tunnel handshake and access proofs (protocol section 12, HTTP API row POST /tunnel)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xnode.core import tunnel
from xnode.core.access import UsedProofs
from xnode.core.faults import (
    Ended,
    Fault,
    MachineFault,
    NotAllowed,
    NotFound,
    PeerFault,
    Unavailable,
    WrongState,
)
from xnode.core.hashing import NetworkKey
from xnode.core.keys import SigningKey
from xnode.core.tunnel import Handshake, Step, TunnelAnswer, TunnelEvent
from xnode.core.values import NS, Hash, Signature

NETWORK = NetworkKey(b"n" * 32)
OTHER_NETWORK = NetworkKey(b"o" * 32)
LEASE = Hash(b"l" * 32)
CHALLENGE = b"c" * 32
ACCESS = SigningKey(b"a" * 32)
CONSUMER = SigningKey(b"b" * 32)
STRANGER = SigningKey(b"s" * 32)
KEYS = (ACCESS.public_key, CONSUMER.public_key)
NOW = 1_700_000_000 * NS


def challenged() -> Handshake:
    return tunnel.on_lease_hash(Handshake(), LEASE, CHALLENGE)


def signed_by(key: SigningKey) -> Signature:
    return key.sign(tunnel.tunnel_message(NETWORK, LEASE, CHALLENGE))


@pytest.mark.parametrize("key", [ACCESS, CONSUMER])
def test_handshake_opens_for_a_key_of_the_lease(key: SigningKey) -> None:
    state = challenged()
    assert (state.step, state.lease_hash, state.challenge) == (Step.CHALLENGED, LEASE, CHALLENGE)
    state = tunnel.on_signature(state, NETWORK, KEYS, signed_by(key))
    assert state.step is Step.DIALLING
    state = tunnel.on_dialled(state)
    assert state.step is Step.OPEN
    assert tunnel.answer_bytes(state) == b"\0"


@pytest.mark.parametrize(
    ("signature", "answer"),
    [
        (signed_by(STRANGER), TunnelAnswer.NOT_ALLOWED),
        (ACCESS.sign(tunnel.tunnel_message(OTHER_NETWORK, LEASE, CHALLENGE)), TunnelAnswer.NOT_ALLOWED),
        (ACCESS.sign(tunnel.tunnel_message(NETWORK, Hash(b"x" * 32), CHALLENGE)), TunnelAnswer.NOT_ALLOWED),
        (ACCESS.sign(tunnel.tunnel_message(NETWORK, LEASE, b"x" * 32)), TunnelAnswer.NOT_ALLOWED),
        (ACCESS.sign(tunnel.access_message(NETWORK, LEASE, NOW)), TunnelAnswer.NOT_ALLOWED),
        (b"", TunnelAnswer.MALFORMED),
        (b"s" * 65, TunnelAnswer.MALFORMED),
    ],
)
def test_wrong_signature_is_refused_by_name(signature: bytes, answer: TunnelAnswer) -> None:
    state = tunnel.on_signature(challenged(), NETWORK, KEYS, signature)
    assert (state.step, state.answer) == (Step.REFUSED, answer)
    assert tunnel.answer_bytes(state)[0] == answer
    assert len(tunnel.answer_bytes(state)) > 10


def test_lease_without_keys_admits_nobody() -> None:
    state = tunnel.on_signature(challenged(), NETWORK, (), signed_by(ACCESS))
    assert state.answer is TunnelAnswer.NOT_ALLOWED


@pytest.mark.parametrize("data", [b"", b"l" * 31, b"l" * 33])
def test_wrong_lease_hash_length_is_malformed(data: bytes) -> None:
    state = tunnel.on_lease_hash(Handshake(), data, CHALLENGE)
    assert (state.step, state.answer) == (Step.REFUSED, TunnelAnswer.MALFORMED)


def test_a_challenge_is_answered_once() -> None:
    refused = tunnel.on_signature(challenged(), NETWORK, KEYS, signed_by(STRANGER))
    dialling = tunnel.on_signature(challenged(), NETWORK, KEYS, signed_by(ACCESS))
    for spent in (refused, dialling):
        with pytest.raises(WrongState):
            tunnel.on_signature(spent, NETWORK, KEYS, signed_by(ACCESS))


def apply(state: Handshake, event: TunnelEvent) -> Handshake:
    if event is TunnelEvent.NAMED:
        return tunnel.on_lease_hash(state, LEASE, CHALLENGE)
    if event is TunnelEvent.PROVED:
        return tunnel.on_signature(state, NETWORK, KEYS, signed_by(ACCESS))
    if event is TunnelEvent.DIALLED:
        return tunnel.on_dialled(state)
    return tunnel.refuse(state, TunnelAnswer.BUSY, "busy")


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("event", list(TunnelEvent))
def test_every_step_and_event_is_the_tables(step: Step, event: TunnelEvent) -> None:
    state = Handshake(step, LEASE, CHALLENGE)
    expected = tunnel.TRANSITIONS.get((step, event))
    if expected is None:
        with pytest.raises(WrongState):
            apply(state, event)
    else:
        assert apply(state, event).step is expected


@pytest.mark.parametrize(
    ("fault", "answer", "back"),
    [
        (NotFound("a", "unknown"), TunnelAnswer.UNKNOWN_LEASE, NotFound),
        (Ended("a", "ended"), TunnelAnswer.LEASE_ENDED, Ended),
        (NotAllowed("a", "no"), TunnelAnswer.NOT_ALLOWED, NotAllowed),
        (WrongState("a", "paused"), TunnelAnswer.NOT_RUNNING, WrongState),
        (Unavailable("a", "full"), TunnelAnswer.BUSY, Unavailable),
        (MachineFault("a", "broken"), TunnelAnswer.UNREACHABLE, PeerFault),
    ],
)
def test_faults_cross_the_wire(fault: Fault, answer: TunnelAnswer, back: type[Fault]) -> None:
    state = tunnel.on_fault(challenged(), fault)
    assert state.answer is answer
    wire = tunnel.answer_bytes(state)
    seen = tunnel.fault_of(wire[0], wire[1:])
    assert type(seen) is back
    assert str(seen) == str(fault)


@given(st.integers(0, 255), st.binary(max_size=3000))
def test_any_refusal_from_the_wire_becomes_a_printable_fault(answer: int, text: bytes) -> None:
    fault = tunnel.fault_of(answer, text)
    assert str(fault).isprintable()
    assert 0 < len(str(fault).encode()) <= max(tunnel.REFUSAL_TEXT_BYTES_MAX, 60)


@given(st.text(max_size=600))
def test_refusal_text_is_bounded_and_utf8(text: str) -> None:
    wire = tunnel.answer_bytes(tunnel.refuse(Handshake(), TunnelAnswer.BUSY, text * 4))
    assert len(wire) <= 1 + tunnel.REFUSAL_TEXT_BYTES_MAX
    wire[1:].decode()


def check(signature: Signature, timestamp: int, used: UsedProofs, now: int = NOW) -> None:
    tunnel.check_access(NETWORK, LEASE, KEYS, signature, timestamp, now, used)


def proof(timestamp: int, key: SigningKey = ACCESS) -> Signature:
    return key.sign(tunnel.access_message(NETWORK, LEASE, timestamp))


def test_access_proof_passes_once() -> None:
    used = UsedProofs()
    check(proof(NOW), NOW, used)
    with pytest.raises(NotAllowed) as caught:
        check(proof(NOW), NOW, used)
    assert caught.value.code == "access_used"
    check(proof(NOW + 1), NOW + 1, used)
    check(proof(NOW, CONSUMER), NOW, used)


@pytest.mark.parametrize("off", [-61 * NS, 61 * NS, -NOW - 1, 2**64 - NOW])
def test_access_proof_out_of_its_window(off: int) -> None:
    with pytest.raises(NotAllowed) as caught:
        check(Signature(bytes(64)), NOW + off, UsedProofs())
    assert caught.value.code == "access_timestamp"


@pytest.mark.parametrize("off", [-60 * NS, 60 * NS])
def test_access_proof_at_the_edge_of_its_window(off: int) -> None:
    check(proof(NOW + off), NOW + off, UsedProofs())


def test_access_proof_for_something_else() -> None:
    wrong = [
        STRANGER.sign(tunnel.access_message(NETWORK, LEASE, NOW)),
        ACCESS.sign(tunnel.access_message(OTHER_NETWORK, LEASE, NOW)),
        ACCESS.sign(tunnel.access_message(NETWORK, Hash(b"x" * 32), NOW)),
        ACCESS.sign(tunnel.access_message(NETWORK, LEASE, NOW + 1)),
        signed_by(ACCESS),
        Signature(b""),
    ]
    for signature in wrong:
        with pytest.raises(NotAllowed) as caught:
            check(signature, NOW, UsedProofs())
        assert caught.value.code == "bad_access_signature"


def test_used_proofs_are_bounded_and_never_forgotten_within_the_window() -> None:
    used = UsedProofs(proofs_max=2)
    check(proof(NOW), NOW, used)
    check(proof(NOW + 1), NOW + 1, used)
    with pytest.raises(Unavailable):
        check(proof(NOW + 2), NOW + 2, used)
    with pytest.raises(NotAllowed):
        check(proof(NOW + 1), NOW + 1, used, now=NOW + 60 * NS)
    late = NOW + 61 * NS
    check(proof(late), late, used, now=late)
    assert len(used) == 1
