"""What a provider is told whose settings let no driver open."""

from pathlib import Path

import pytest

from xnode.config import Config, DataDir
from xnode.core.faults import OperatorFault
from xnode.vm import images
from xnode.vm.images import MANIFEST, Least
from xnode.vm.open_driver import open_driver


async def told(data_dir: DataDir) -> str:
    with pytest.raises(OperatorFault) as caught:
        async with open_driver(data_dir, Config()):
            pass
    assert caught.value.code == "image_missing"
    return str(caught.value)


async def test_who_has_no_image_is_told_how_to_get_one(tmp_path: Path) -> None:
    message = await told(DataDir(tmp_path))
    assert "no image 'debian'" in message
    assert "xnode image add" in message
    assert "machine_image" not in message


async def test_who_has_another_image_than_the_default_is_told_the_setting(tmp_path: Path) -> None:
    made = tmp_path / "images" / "tiny-0123"
    made.mkdir(parents=True)
    for name in ("vmlinuz", "initrd"):
        (made / name).write_bytes(name.encode())
    (made / MANIFEST).write_bytes(images.render_manifest("tiny", Least(128), {}, made))
    (tmp_path / "images" / "tiny").symlink_to(made.name)
    assert "or set machine_image in config.toml to one that is there (tiny)" in await told(DataDir(tmp_path))
