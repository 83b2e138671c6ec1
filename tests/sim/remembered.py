"""What all nodes of a run compute alike is computed once: signatures, and what bytes decode to.

The answers are libsodium's and the codec's own and depend on nothing but what is asked; only the second to ask gets the
first one's. A signature that a node has made itself is not checked: libsodium accepts what it signs.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, Final
from unittest.mock import patch

import nacl.bindings

from xnode.core.blocks import decode_block
from xnode.core.records import RecordKind
from xnode.core.values import PublicKey
from xnode.roles import replica, vote_exchange
from xnode.store import reads, schema
from xnode.store.records import Tally

ANSWERS_MAX: Final = 50_000  # of each kind
SECRET_BYTES: Final = 32  # then a secret key of libsodium has its public key

_sign = nacl.bindings.crypto_sign
_open = nacl.bindings.crypto_sign_open
_is_valid_point = nacl.bindings.crypto_core_ed25519_is_valid_point
_read = RecordKind.read


class Signatures:
    """libsodium's two functions."""

    def __init__(self) -> None:
        self._opened: dict[tuple[bytes, bytes], bytes] = {}

    def sign(self, message: bytes, secret: bytes) -> bytes:
        """As crypto_sign."""
        signed: bytes = _sign(message, secret)
        self._note(signed, PublicKey(secret[SECRET_BYTES:]), message)
        return signed

    def open(self, signed: bytes, public: bytes) -> bytes:
        """As crypto_sign_open; what is bad is looked at every time."""
        message = self._opened.get((signed, public))
        if message is None:
            message = _open(signed, public)
            self._note(signed, public, message)
        return message

    def _note(self, signed: bytes, public: bytes, message: bytes) -> None:
        if len(self._opened) >= ANSWERS_MAX:
            self._opened.clear()
        self._opened[signed, public] = message


def reader() -> Callable[..., Any]:
    """`RecordKind.read`, remembering."""

    @lru_cache(ANSWERS_MAX)
    def answer(tag: str, network_key: bytes, data: bytes) -> Any:
        return _read(kinds[tag], network_key, data)  # type: ignore[arg-type]

    kinds: dict[str, RecordKind[Any]] = {}

    def read(kind: RecordKind[Any], network_key: bytes, data: bytes) -> Any:
        kinds[kind.tag] = kind
        return answer(kind.tag, network_key, data)

    return read


def tally_reader() -> Callable[[bytes], Tally]:
    """`unpack_tally`, remembering; each caller gets totals of its own."""
    answer = lru_cache(ANSWERS_MAX)(schema.unpack_tally)

    def read(value: bytes) -> Tally:
        tally = answer(value)
        return tally._replace(totals=dict(tally.totals))

    return read


@contextmanager
def remembering() -> Iterator[None]:
    """In this block."""
    signatures, decoded = Signatures(), lru_cache(ANSWERS_MAX)(decode_block)
    with ExitStack() as stack:
        stack.enter_context(patch.object(nacl.bindings, "crypto_sign", signatures.sign))
        stack.enter_context(patch.object(nacl.bindings, "crypto_sign_open", signatures.open))
        point = lru_cache(ANSWERS_MAX)(_is_valid_point)
        stack.enter_context(patch.object(nacl.bindings, "crypto_core_ed25519_is_valid_point", point))
        stack.enter_context(patch.object(RecordKind, "read", reader()))
        for name in ("unpack", "unpack_row"):
            stack.enter_context(patch.object(schema, name, lru_cache(ANSWERS_MAX)(getattr(schema, name))))
        stack.enter_context(patch.object(reads, "unpack_tally", tally_reader()))
        for module in (schema, replica, vote_exchange):
            stack.enter_context(patch.object(module, "decode_block", decoded))
        yield
