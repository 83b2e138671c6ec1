"""One user a machine, from a range, where the range exists."""

import pytest

from xnode.core.faults import OperatorFault
from xnode.core.values import Hash
from xnode.vm.machine_users import UserRange, is_mapped

LEASE = Hash(bytes([0, 0, 0, 5]) * 8)


def test_the_lease_says_which_and_no_two_machines_share_one():
    users = UserRange(1000, 10)
    assert users.choose(LEASE, set()) == 1005
    assert users.choose(LEASE, {1005, 1006}) == 1007
    assert users.choose(LEASE, set(range(1000, 1009))) == 1009
    with pytest.raises(OperatorFault, match="machine_uid_count"):
        users.choose(LEASE, set(range(1000, 1010)))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [("0 0 4294967295\n", True), ("0 100000 500\n", False), ("0 1000 1\n1 100000 5000\n", True), ("", False)],
)
def test_a_container_may_not_have_them(tmp_path, rows, expected):
    (tmp_path / "map").write_text(rows)
    assert is_mapped(UserRange(1000, 10), tmp_path / "map") is expected


def test_a_kernel_without_user_namespaces_has_all(tmp_path):
    assert is_mapped(UserRange(), tmp_path / "none")
