"""The image store: names, manifests, what is found damaged, what may be removed."""

import os
from pathlib import Path

import pytest

from tests.support.qemu import new_consumer, new_spec
from xnode.core.faults import CallerFault, Fault, MachineFault, OperatorFault, WrongState
from xnode.core.machine import MachineStatus
from xnode.core.market import GuestImage
from xnode.core.values import PublicKey
from xnode.vm import image_store, images, machine_files, state
from xnode.vm.image_store import StoreOffer
from xnode.vm.images import Least
from xnode.vm.state import Record


@pytest.mark.parametrize("name", ["", "../tiny", "tiny/..", "Tiny", "tiny-", "x" * 65, "tiny\n"])
def test_image_name_is_no_path(tmp_path, name):
    with pytest.raises(CallerFault):
        images.open_image(tmp_path, name)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"format": 1, "kind": "x", "least_memory_mb": 1, "files": {}}'])
def test_damaged_manifest_is_named(tmp_path, manifest):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "manifest.json").write_text(manifest)
    with pytest.raises(MachineFault) as caught:
        images.open_image(tmp_path, "tiny")
    assert caught.value.code == "image_damaged"


def test_manifest_is_reproducible_and_holds(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for name in ("vmlinuz", "initrd"):
        (folder / name).write_bytes(name.encode())
    manifest = images.render_manifest("tiny", Least(128), {"versions": {"b": "1", "a": "2"}}, folder)
    assert manifest == images.render_manifest("tiny", Least(128), {"versions": {"a": "2", "b": "1"}}, folder)
    (folder / "manifest.json").write_bytes(manifest)
    image = images.open_image(tmp_path, "tiny")
    assert (image.kind, image.least, image.base) == ("tiny", Least(128), "")
    images.verify(image)
    (folder / "initrd").write_bytes(b"other")
    with pytest.raises(MachineFault, match="not the file of its manifest"):
        images.verify(image)


def put(store: Path, kind: str, data: bytes, **about: object) -> str:
    """An image that boots itself, in the store; its name."""
    store.mkdir(exist_ok=True)
    name = f"{kind}-{data.hex()[:12]}"
    made = store / ".made"
    made.mkdir()
    (made / "base.qcow2").write_bytes(data)
    (made / "manifest.json").write_bytes(images.render_manifest(kind, Least(512, 3), about, made))
    return image_store.install(store, made, name, kind).name


def use(root: Path, image: str) -> Path:
    """A machine's record that names the image."""
    spec = new_spec(new_consumer())
    directory = machine_files.directory_of(root, spec.lease_hash)
    directory.mkdir(parents=True)
    record = Record(spec, image, 128, PublicKey(bytes(32)), "tcg", 0, MachineStatus.RUNNING, 0)
    state.save(directory, record)
    return directory


def test_the_latest_of_a_kind_is_what_its_name_leads_to(tmp_path):
    first, second = put(tmp_path, "a", b"first"), put(tmp_path, "a", b"second")
    assert images.open_image(tmp_path, "a").name == second
    assert images.open_image(tmp_path, first).kind == "a"
    found = {item.name: item.kinds for item in image_store.survey(tmp_path)}
    assert found == {first: (), second: ("a",)}


def test_a_provider_offers_the_kinds_that_its_host_boots(tmp_path):
    put(tmp_path, "ours", b"ours", architecture=images.host_architecture())
    put(tmp_path, "other", b"other", architecture="s390x")
    (tmp_path / put(tmp_path, "broken", b"broken") / "manifest.json").write_text("{")
    offer = StoreOffer(tmp_path, "ours")
    assert offer.images() == (GuestImage("ours", 512, 3),)
    assert StoreOffer(tmp_path / "none", "ours").images() == ()
    put(tmp_path, "also", b"also")
    assert [item.name for item in offer.images()] == ["ours", "also"]
    assert [item.name for item in StoreOffer(tmp_path, "ours", ("none",)).images()] == ["ours"]
    image_store.remove(tmp_path, "ours", tmp_path / "machines")
    assert [item.name for item in offer.images()] == ["also"]


def test_verify_hashes_everything_and_names_what_is_damaged(tmp_path):
    whole, changed, gone = put(tmp_path, "a", b"aa"), put(tmp_path, "b", b"bb"), put(tmp_path, "c", b"cc")
    (tmp_path / changed / "base.qcow2").write_bytes(b"bx")
    (tmp_path / gone / "base.qcow2").unlink()
    told: dict[str, str] = {}
    assert not image_store.verify_all(tmp_path, (), told.__setitem__)
    assert told[whole] == ""
    assert "base.qcow2 is not the file of its manifest" in told[changed]
    assert "base.qcow2" in told[gone]
    assert image_store.verify_all(tmp_path, ("a",), told.__setitem__)
    assert not image_store.verify_all(tmp_path, ("d",), told.__setitem__)


@pytest.mark.parametrize("by", ["kind", "name"])
def test_an_image_is_removed_with_what_leads_to_it(tmp_path, by):
    name = put(tmp_path, "a", b"aa")
    kept = put(tmp_path, "b", b"bb")
    assert image_store.remove(tmp_path, "a" if by == "kind" else name, tmp_path / "machines") == name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", kept]


def test_a_damaged_image_can_be_removed(tmp_path):
    (tmp_path / put(tmp_path, "a", b"aa") / "manifest.json").write_text("{")
    image_store.remove(tmp_path, "a", tmp_path / "machines")
    assert list(tmp_path.iterdir()) == []


def test_an_image_in_use_stays_until_its_machines_are_gone(tmp_path):
    store, machines = tmp_path / "store", tmp_path / "machines"
    name = put(store, "a", b"aa")
    put(store, "b", b"bb")
    user = use(machines, name)
    with pytest.raises(WrongState, match="xnode-") as caught:
        image_store.remove(store, "a", machines)
    assert caught.value.code == "image_in_use"
    image_store.remove(store, "b", machines)
    (user / "machine.json").write_text("{")
    with pytest.raises(WrongState, match="can't be read"):
        image_store.remove(store, "a", machines)
    user.rename(user.with_suffix(".gone"))
    image_store.remove(store, "a", machines)


def test_what_is_no_image_is_not_removed(tmp_path):
    store = tmp_path / "store"
    put(store, "a", b"aa")
    outside = tmp_path / "outside"
    outside.mkdir()
    (store / "out").symlink_to(outside)
    for name, kind in (("none", OperatorFault), ("../outside", CallerFault), ("out", CallerFault)):
        with pytest.raises(kind):
            image_store.remove(store, name, tmp_path / "machines")
    assert outside.exists()


def test_a_removal_that_died_is_finished_by_the_next_addition(tmp_path):
    (tmp_path / ".a-6161.gone").mkdir()
    with image_store.unfinished(tmp_path):
        assert not (tmp_path / ".a-6161.gone").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_full_store_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(image_store, "IMAGES_MAX", 1)
    put(tmp_path, "a", b"aa")
    with pytest.raises(Fault, match="remove some"):
        put(tmp_path, "b", b"bb")
    assert os.path.lexists(tmp_path / "a")
    assert not os.path.lexists(tmp_path / "b")
