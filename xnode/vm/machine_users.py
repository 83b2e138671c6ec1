"""The user that a machine's QEMU runs as: one of its own, so that no machine can touch another's processes or files.

Only root may choose; where the node is not root, its machines run as the node's own user. The number comes from the
lease hash, so that nodes that share a host rarely meet; among this node's own machines it never repeats.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple

from xnode.core.faults import OperatorFault
from xnode.core.values import Hash

UID_FIRST: Final = 1_900_000_000  # of a part that systemd and the usual tools leave alone
UID_COUNT: Final = 65_536
_HASH_BYTES: Final = 4
_MAP: Final = Path("/proc/self/uid_map")


class UserRange(NamedTuple):
    """User numbers from `first` on; none where `size` is 0."""

    first: int = UID_FIRST
    size: int = UID_COUNT

    def choose(self, lease_hash: Hash, taken: Collection[int]) -> int:
        """A number that no machine of ours has; raises OperatorFault(no_user_left)."""
        offset = int.from_bytes(lease_hash[:_HASH_BYTES], "big")
        for step in range(min(self.size, len(taken) + 1)):
            uid = self.first + (offset + step) % self.size
            if uid not in taken:
                return uid
        raise OperatorFault("no_user_left", "raise machine_uid_count: every user number has its machine")


def is_mapped(wanted: UserRange, uid_map: Path = _MAP) -> bool:
    """Whether these users exist here; in a user namespace, such as a container's, often only a part does."""
    try:
        rows = [tuple(map(int, line.split())) for line in uid_map.read_text().splitlines()]
    except OSError:
        return True  # a kernel without user namespaces
    return any(first <= wanted.first and wanted.first + wanted.size <= first + count for first, _, count in rows)
