"""Hypothesis strategies for the ledger's values: they make well-formed ones, good or bad by the rules."""

from typing import Any, Final

from hypothesis import strategies as st

from xnode.core.attestations import ATTESTATIONS_MAX, Attestation
from xnode.core.blocks import BODIES, KEYSET_TYPES, Block, BlockType
from xnode.core.keyset import Keyset, KeySignature
from xnode.core.values import U64_MAX, Asset

u64s = st.one_of(st.integers(0, 300), st.integers(0, U64_MAX), st.sampled_from([2**16, 2**32, 2**63, U64_MAX]))
bytes32 = st.binary(min_size=32, max_size=32)
bytes64 = st.binary(min_size=64, max_size=64)
attestations = st.lists(st.builds(Attestation, bytes32, u64s, bytes64), max_size=ATTESTATIONS_MAX).map(tuple)

distinct_keys = st.lists(bytes32, min_size=1, max_size=4, unique=True).map(sorted)
keysets = distinct_keys.flatmap(lambda keys: st.builds(Keyset, st.just(tuple(keys)), st.integers(1, len(keys))))
key_signatures = distinct_keys.flatmap(
    lambda keys: st.tuples(*(st.builds(KeySignature, st.just(key), bytes64) for key in keys))
)

NUMBERS: Final = frozenset({"amount", "vcpus", "memory_mb", "disk_gb", "duration", "multiplier_milli"})


def _field(name: str) -> st.SearchStrategy[Any]:
    if name == "attestations":
        return attestations
    if name == "keyset":
        return keysets
    return u64s if name in NUMBERS else bytes32


def bodies(kind: BlockType) -> st.SearchStrategy[Any]:
    """Own fields of one block type."""
    make = BODIES[kind]
    return st.builds(make, *(_field(name) for name in make._fields))


def blocks_of(kind: BlockType) -> st.SearchStrategy[Block]:
    """Well-formed blocks of one type, signed by one key or by several."""
    several = st.tuples(unsigned_blocks_of(kind), st.just(()) | key_signatures)
    multisig = several.map(lambda pair: pair[0]._replace(signatures=pair[1]))
    if kind in KEYSET_TYPES:
        return multisig
    one = st.tuples(unsigned_blocks_of(kind), bytes64).map(lambda pair: pair[0]._replace(signature=pair[1]))
    return one | multisig


def unsigned_blocks_of(kind: BlockType) -> st.SearchStrategy[Block]:
    """The same without any signature."""
    return st.builds(
        Block,
        st.just(kind),
        bytes32,
        bytes32,
        st.sampled_from(Asset),
        u64s,
        st.none() | bytes32,
        u64s,
        bodies(kind),
        signature=st.just(bytes(64)),
        work=u64s,
        signatures=st.none(),
    )


blocks = st.sampled_from(BlockType).flatmap(blocks_of)
