"""BLAKE3 by its authors' vectors, our keyed hashes over it, and the proof that no vector file lies unread."""

from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from tests.support import vectors
from tests.support.vectors import VECTORS_DIR, read_vectors
from xnode.core.hashing import KEY_CONTEXT, NetworkKey, Tag, derive_network_key, tagged_hash

BLAKE3 = read_vectors("blake3.json")
TESTS_DIR = Path(__file__).parents[1]


def test_all_blake3_cases_are_here() -> None:
    assert len(BLAKE3["cases"]) == 35


@pytest.mark.parametrize("case", BLAKE3["cases"], ids=lambda case: f"{case['input_len']} bytes")
def test_blake3(case: dict[str, Any]) -> None:
    data = bytes(index % 251 for index in range(case["input_len"]))
    key, context = BLAKE3["key"].encode(), BLAKE3["context_string"]
    size = len(case["hash"]) // 2
    assert blake3(data).hexdigest(length=size) == case["hash"]
    assert blake3(data, key=key).hexdigest(length=size) == case["keyed_hash"]
    assert blake3(data, derive_key_context=context).hexdigest(length=size) == case["derive_key"]
    assert blake3(data).hexdigest() == case["hash"][:64]


def test_network_key_is_derived_by_the_context_of_section_1() -> None:
    assert KEY_CONTEXT == "xnode network v1"
    key = derive_network_key(b"canonical")
    assert key == blake3(b"canonical", derive_key_context="xnode network v1").digest()
    assert key.hex() == "080d7a999abbf342cf13cf4f93e1f9a5cf1aa70e1c50d0c89a06ca77cb3103af"


def test_tagged_hash_is_keyed_over_tag_and_data() -> None:
    key = NetworkKey(b"k" * 32)
    assert tagged_hash(key, Tag.BLOCK, b"data") == blake3(b"blockdata", key=key).digest()
    assert (
        tagged_hash(key, Tag.BLOCK, b"data").hex() == "8f1e78f7437edcc7251195a8746b37d41c99a336bf28e7cf6244590a24ed2d48"
    )


def test_every_tag_and_every_network_hashes_differently() -> None:
    keys = [NetworkKey(b"k" * 32), NetworkKey(b"l" * 32)]
    assert len({tagged_hash(key, tag, b"\x90") for key in keys for tag in Tag}) == 2 * len(Tag)


def test_no_tag_runs_into_another() -> None:
    assert not [(tag, other) for tag in Tag for other in Tag if tag is not other and other.startswith(tag)]


def readers_of(name: str) -> list[Path]:
    call = f'read_vectors("{name}")'
    return [path for path in sorted(TESTS_DIR.rglob("test_*.py")) if call in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", sorted(VECTORS_DIR.glob("*.json")), ids=lambda path: path.name)
def test_every_vector_file_was_opened(path: Path, request: pytest.FixtureRequest) -> None:
    """Some module reads it, and where that module is part of this session, it really did."""
    readers = readers_of(path.name)
    assert readers, f"no test reads {path.name}"
    collected = {item.path for item in request.session.items}
    assert path.name in vectors.opened or not collected & set(readers), f"{readers[0].name} did not open {path.name}"


def test_only_vectors_and_their_page_are_there() -> None:
    files = sorted(path.name for path in VECTORS_DIR.iterdir() if path.suffix != ".json")
    assert files == ["README.md"]


@pytest.mark.parametrize("path", sorted(VECTORS_DIR.glob("*.json")), ids=lambda path: path.name)
def test_the_page_names_every_vector_file(path: Path) -> None:
    assert f"| {path.name} |" in (VECTORS_DIR / "README.md").read_text(encoding="utf-8")
