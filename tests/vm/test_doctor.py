"""`xnode doctor` boots a machine, whether the node runs or not, and leaves nothing."""

import json
import shutil

import pytest

from tests.support.command import spawn
from tests.support.ledger import make_genesis
from tests.support.qemu import IMAGE_STORE
from xnode.config import Config, DataDir

pytestmark = [pytest.mark.vm, pytest.mark.slow]


def test_it_boots_a_machine_and_leaves_nothing(tiny_image, tmp_path):
    data_dir = DataDir(tmp_path / "node")
    config = Config(
        api_port=0, listen=(), provide=True, machine_image="tiny", machine_images_dir=str(IMAGE_STORE),
        machine_accelerator="tcg",
    )  # fmt: skip
    data_dir.create(make_genesis(), config)
    before = sorted(path.name for path in data_dir.root.iterdir())
    ended = spawn("doctor", "--json", "--data-dir", data_dir.root, seconds=120)
    assert ended.returncode == 0, ended
    checks = {item["name"]: item for item in json.loads(ended.stdout)["checks"]}
    assert "logged in to after" in checks["boot"]["detail"]
    assert sorted(path.name for path in data_dir.root.iterdir()) == before
    assert checks["program"]["detail"] == shutil.which("prlimit")
