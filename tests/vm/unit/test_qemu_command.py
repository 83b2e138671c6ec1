"""QEMU's arguments: what keeps a guest in, and what must not stand there."""

from itertools import pairwise

from xnode.vm.qemu_command import Guest, disk_command, qemu_command

COMMAND = qemu_command(Guest("xnode-abc", "1-2-3", "tcg", 2, 512))


def after(option: str) -> list[str]:
    return [value for name, value in pairwise(COMMAND) if name == option]


def test_the_guest_reaches_nothing_and_only_ssh_is_forwarded_on_loopback():
    (network,) = after("-netdev")
    assert network.split(",")[2:] == ["restrict=on", "ipv6=off", "hostfwd=tcp:127.0.0.1:0-:22"]


def test_a_machine_with_internet_is_told_its_resolver_and_only_ssh_is_forwarded():
    command = qemu_command(Guest("xnode-abc", "1-2-3", "tcg", 2, 512, resolver="9.9.9.9"))
    values = dict(pairwise(command))
    assert values["-netdev"].split(",")[2:] == ["restrict=off", "ipv6=off", "hostfwd=tcp:127.0.0.1:0-:22"]
    assert values["-append"].endswith(" xnode.resolver=9.9.9.9")
    assert "xnode.resolver" not in " ".join(COMMAND)


def test_qemu_is_sandboxed_and_has_no_defaults():
    (sandbox,) = after("-sandbox")
    assert sandbox.startswith("on,")
    assert sandbox.count("=deny") == 4
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(COMMAND)


def test_resources_and_identity():
    found = [after(option) for option in ("-smp", "-m", "-accel", "-uuid", "-name")]
    assert found == [["2"], ["512"], ["tcg,tb-size=96"], ["1-2-3"], ["xnode-abc"]]


def test_no_path_leaves_the_machines_directory():
    assert [word for word in COMMAND if "/" in word] == []


def test_disk_stands_over_the_root_disk_where_the_image_has_one():
    assert disk_command(3, "")[-2:] == ("disk.qcow2", "3G")
    assert disk_command(3, "root.qcow2")[5:] == ("-b", "root.qcow2", "-F", "qcow2", "disk.qcow2", "3G")


def test_a_guest_boots_by_our_kernel_or_by_its_own_disk_and_never_by_both():
    own = qemu_command(Guest("xnode-abc", "1-2-3", "tcg", 2, 512, boots_itself=True))
    direct = {"-kernel", "-initrd", "-append"}
    assert direct <= set(COMMAND)
    assert not direct & set(own)
    assert [word for word in own if "bootindex" in word] == ["virtio-blk-pci,drive=disk0,serial=root,bootindex=0"]
    assert [word for word in COMMAND if "bootindex" in word] == []
    (seed,) = [word for word in own if "seed.iso" in word]
    assert "readonly=on" in seed


def test_a_guests_kernel_does_not_test_its_timer():
    """Emulated beside ten busy processes one in twenty panicked over it."""
    (words,) = after("-append")
    assert "no_timer_check" in words.split()
