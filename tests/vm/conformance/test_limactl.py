"""What this node's driver relies on in limactl itself: exit statuses, states and JSON, of whatever LIMACTL names.

Held against the double in CI; the double is as good as what passes here against the real program too.
"""

import json
import os
import subprocess
from typing import NamedTuple

import pytest

from xnode.core.machine import machine_name
from xnode.vm.lima_settings import LimaSettings, prepare
from xnode.vm.lima_yaml import Instance, render
from xnode.vm.limactl import Limactl


class Program(NamedTuple):
    """The driver's own way of calling limactl, but with the exit status told."""

    settings: LimaSettings

    def __call__(self, *words: str, given: bytes = b"", as_root: bool = False) -> subprocess.CompletedProcess[bytes]:
        account = prepare(self.settings)
        user = {} if as_root else account.identity.popen_arguments()
        environment = Limactl(account, self.settings.home, self.settings.accelerator).environment
        command = (account.program, "--tty=false", *words)
        return subprocess.run(command, input=given, env=environment, cwd="/", capture_output=True, check=False, **user)

    def document(self) -> bytes:
        return render(Instance(1, 512, 4, self.settings.image, self.settings.image_digest)).encode()

    def states(self) -> dict[str, str]:
        lines = self("list", "--json").stdout.splitlines()
        return {item["name"]: item["status"] for item in map(json.loads, lines)}


@pytest.fixture
def limactl(kit) -> Program:
    return Program(kit.lima)


@pytest.fixture
def instance(limactl):
    """One that has not been started."""
    assert limactl("create", "--name=contract-test", "-", given=limactl.document()).returncode == 0
    yield "contract-test"
    limactl("unprotect", "contract-test")
    assert limactl("delete", "-f", "contract-test").returncode == 0
    assert "contract-test" not in limactl.states()


def test_instance_is_stopped_until_it_is_started_and_made_once(limactl, instance):
    assert limactl.states()[instance] == "Stopped"
    again = limactl("create", f"--name={instance}", "-", given=limactl.document())
    assert again.returncode == 1
    assert b"already exists" in again.stderr


def test_stopped_instance_refuses_to_stop_and_to_run_commands(limactl, instance):
    assert limactl("stop", instance).returncode == 1
    assert limactl("shell", instance, "true").returncode == 1


def test_deleting_what_is_not_there_succeeds(limactl):
    done = limactl("delete", "nothing-here")
    assert done.returncode == 0
    assert b"non-existent" in done.stderr


def test_protected_instance_is_not_deleted_even_by_force(limactl, instance):
    assert limactl("protect", instance).returncode == 0
    assert limactl("delete", "-f", instance).returncode == 1
    assert limactl("unprotect", instance).returncode == 0


def test_list_names_the_known_ones_and_fails_for_the_unknown(limactl, instance):
    done = limactl("list", "--json", instance, "nothing-here")
    assert done.returncode == 1
    assert json.loads(done.stdout)["name"] == instance
    assert b"unmatched instances" in done.stderr


def test_list_has_the_fields_that_the_driver_reads(limactl, instance):
    fields = set(limactl("list", "--list-fields").stdout.decode().lower().split())
    assert {"name", "status", "dir", "driverpid", "sshlocalport", "errors"} <= fields
    shown = json.loads(limactl("list", "--json", instance).stdout)
    assert shown["dir"] == str(limactl.settings.home / instance)
    assert (shown["cpus"], shown["memory"], shown["disk"]) == (1, 512 << 20, 4 << 30)
    assert shown["config"]["plain"] is True
    assert shown["protected"] is False


@pytest.mark.parametrize("name", ["a b", "-a", "a" * 77, "a..b", ""])
def test_bad_name_is_refused(limactl, name):
    assert limactl("create", f"--name={name}", "-", given=limactl.document()).returncode == 1


def test_unknown_command_and_unknown_flag_are_refused(limactl, instance):
    assert limactl("no-such-command").returncode == 1
    assert limactl("start", "--no-such-flag", instance).returncode == 1


def test_root_is_refused(limactl):
    done = limactl("list", as_root=True)
    assert (done.returncode, b"must not run as the root user" in done.stderr) == (
        (1, True) if os.geteuid() == 0 else (0, False)
    )


async def test_running_instance_starts_again_at_once_and_is_not_deleted_without_force(limactl, running):
    name = machine_name(running.machine.spec.lease_hash)
    assert limactl.states()[name] == "Running"
    assert limactl("start", name).returncode == 0
    assert limactl("delete", name).returncode == 1
    shown = json.loads(limactl("list", "--json", name).stdout)
    assert shown["sshLocalPort"] == running.machine.ssh_port
    assert shown["driverPID"] > 0


async def test_shell_gives_the_commands_status_streams_and_input(limactl, running):
    name = machine_name(running.machine.spec.lease_hash)
    words = ("shell", "--workdir", "/", name, "sudo", "-n", "sh", "-c", "cat; pwd; echo err >&2; exit 7")
    done = limactl(*words, given=b"given ")
    assert (done.returncode, done.stdout) == (7, b"given /\n")
    assert b"err\n" in done.stderr
