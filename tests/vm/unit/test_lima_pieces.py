"""The Lima driver's parts that need no Lima: its document, the list it reads, the guest's script, its settings."""

import json
import os
import pwd
from pathlib import Path

import pytest

from tests.support.limactl import keys
from tests.support.qemu import new_consumer, new_spec
from xnode.config import Config, DataDir, make_config
from xnode.core.faults import MachineFault, OperatorFault
from xnode.vm import lima_seed, ssh_keys
from xnode.vm.lima import LimaDriver
from xnode.vm.lima_settings import LimaSettings, prepare
from xnode.vm.lima_yaml import Instance, render
from xnode.vm.limactl import LimaInstance, parse_list
from xnode.vm.open_driver import lima_settings as settings_of
from xnode.vm.qemu import QemuDriver

WANTED = Instance(vcpus=2, memory_mb=2048, disk_gb=20, image="/images/debian.qcow2", image_digest="sha256:" + "0f" * 32)


def test_document_holds_against_the_keys_and_rules_of_lima():
    shape = keys.check(keys.parse(render(WANTED)))
    assert shape == ("/images/debian.qcow2", 2, 2048 << 20, 20 << 30, "guest")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpu", 2),
        ("cpus", "2"),
        ("cpus", 0),
        ("memory", "2 buckets"),
        ("images", []),
        ("images", [{"location": "/x", "arch": "x86_64", "sha256": "0f"}]),
        ("images", [{"location": "/x", "arch": "x86_64", "digest": "sha256:0f"}]),
        ("ssh", {"localport": 0}),
        ("user", {"name": "guest", "shell": "bash"}),
        ("mounts", {}),
    ],
)
def test_double_refuses_what_lima_would_refuse_or_only_warn_of(key, value):
    document = {**keys.parse(render(WANTED)), key: value}
    with pytest.raises(keys.Refused):
        keys.check(document)


def test_no_directory_key_or_proxy_of_the_host_gets_into_the_guest():
    document = keys.parse(render(WANTED))
    assert (document["plain"], document["mounts"], document["propagateProxyEnv"]) == (True, [], False)
    assert not any(document["ssh"].values())
    assert not any(document["containerd"].values())


def line(**fields) -> bytes:
    plain = {"name": "xnode-a", "status": "Running", "dir": "/l/xnode-a", "driverPID": 7, "sshLocalPort": 99, **fields}
    return json.dumps(plain).encode() + b"\n"


def test_list_is_read_line_by_line():
    found = parse_list(line() + line(name="xnode-b", status="Broken", driverPID=0, errors=["no driver"]))
    assert found["xnode-a"].is_running
    assert (found["xnode-a"].pid, found["xnode-a"].ssh_port) == (7, 99)
    assert (found["xnode-b"].is_running, found["xnode-b"].is_off) == (False, False)
    assert found["xnode-b"].errors == ("no driver",)
    assert parse_list(b"") == {}


def test_stopped_instance_has_neither_process_nor_port():
    stopped = json.dumps({"name": "a", "status": "Stopped", "dir": "/l/a"}).encode()
    assert parse_list(stopped)["a"] == LimaInstance("Stopped", Path("/l/a"), 0, 0, ())
    assert parse_list(stopped)["a"].is_off


@pytest.mark.parametrize("output", [b"[]\n", b"not json\n", b'{"name": "a"}\n', line(driverPID="7")])
def test_list_that_is_something_else_is_a_fault(output):
    with pytest.raises(MachineFault, match="is it Lima 2"):
        parse_list(output)


def test_script_gives_the_guest_its_keys_and_name_the_same_each_time():
    spec, provider = new_spec(new_consumer()), new_consumer().public_key
    script = lima_seed.seed_script(spec, provider, bytes(32))
    assert script == lima_seed.seed_script(spec, provider, bytes(32))
    for key in (spec.access_key, provider):
        assert ssh_keys.public_line(key) + "\n" in script
    assert "BEGIN OPENSSH PRIVATE KEY" in script
    assert f"hostname xnode-{spec.lease_hash.hex()[:12]}\n" in script


@pytest.fixture
def good(tmp_path) -> LimaSettings:
    """Settings that hold for whoever runs the tests."""
    program = tmp_path / "limactl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    user = "nobody" if os.geteuid() == 0 else ""
    return LimaSettings(tmp_path / "m", Path("/tmp") / tmp_path.name, "/x", limactl=str(program), user=user)


@pytest.fixture
def as_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_root_is_told_to_name_a_user(good, as_root):
    with pytest.raises(OperatorFault, match="set lima_user") as caught:
        prepare(good._replace(user=""))
    assert caught.value.code == "lima_as_root"
    with pytest.raises(OperatorFault, match="refuses root"):
        prepare(good._replace(user="root"))


def test_only_root_may_run_it_as_somebody_else(good, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("daemon").pw_uid)
    with pytest.raises(OperatorFault, match="only root"):
        prepare(good._replace(user="nobody"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"limactl": "/nowhere/limactl"}, "lima_missing"),
        ({"image": ""}, "lima_no_image"),
        ({"home": Path("/tmp/" + "x" * 64)}, "lima_home_too_long"),
        ({"home": Path("/proc")}, "lima_home_of_another"),
    ],
)
def test_what_is_missing_is_named(good, change, code):
    with pytest.raises(OperatorFault) as caught:
        prepare(good._replace(**change))
    assert caught.value.code == code


def test_unknown_user_is_named(good, as_root):
    with pytest.raises(OperatorFault, match="no user of this host"):
        prepare(good._replace(user="no-such-user-here"))


def test_operator_must_agree_to_the_weaker_isolation(tmp_path):
    config = make_config({"machine_driver": "lima", "lima_image": "/x"})
    with pytest.raises(OperatorFault, match="lima_weaker_isolation") as caught:
        settings_of(DataDir(tmp_path), config)
    assert caught.value.code == "lima_isolates_less"
    agreed = settings_of(DataDir(tmp_path), config._replace(lima_weaker_isolation=True))
    assert (agreed.home, agreed.root) == (tmp_path / "lima" / "home", tmp_path / "lima" / "machines")


def test_lima_promises_no_closed_ranges_and_says_that_its_guests_reach_the_internet(tmp_path):
    config = Config(machine_driver="lima", lima_weaker_isolation=True, internet="open", internet_resolver="9.9.9.9")
    with pytest.raises(OperatorFault, match="machine_driver") as caught:
        settings_of(DataDir(tmp_path), config)
    assert caught.value.code == "internet_not_by_lima"
    assert (LimaDriver.internet, QemuDriver.internet) == ("open", "none")


def test_internet_is_none_or_open():
    with pytest.raises(OperatorFault, match="none or open"):
        make_config({"internet": "some"})


def test_limactl_is_what_the_setting_or_else_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMACTL", "/env/limactl")
    config = Config(machine_driver="lima", lima_weaker_isolation=True)
    assert settings_of(DataDir(tmp_path), config).limactl == "/env/limactl"
    assert settings_of(DataDir(tmp_path), config._replace(lima_limactl="/set")).limactl == "/set"


def test_unknown_driver_is_refused():
    with pytest.raises(OperatorFault, match="qemu or lima"):
        make_config({"machine_driver": "docker"})
