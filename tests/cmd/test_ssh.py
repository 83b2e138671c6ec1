"""Which host key a login checks: that of the lease's accept block, however much its provider has signed since."""

from pathlib import Path

import click
import pytest

from tests.support.node_port import running_api
from xnode.core.lease import LeaseState
from xnode_cmd import ssh
from xnode_cmd.client import ApiClient


def test_the_accept_block_is_found_behind_later_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "LIST_LIMIT", 1)
    with running_api(tmp_path) as running, ApiClient(str(running.http.base_url)) as client:
        with running.node.snapshot() as view:
            leases = [lease for lease in view.leases(limit=100) if lease.accept_hash != bytes(32)]
        assert LeaseState.ACCEPTED in {lease.state for lease in leases}
        for lease in leases:
            record = client.get(f"/leases/{lease.lease_hash.hex()}")
            assert ssh.read_host_key(client, record) == lease.host_key
        with pytest.raises(click.ClickException, match="no accept block"):
            ssh.read_host_key(client, record | {"lease_hash": "ab" * 32})
        monkeypatch.setattr(ssh, "CHAIN_PAGES_MAX", 1)
        deep = [item for item in leases if not _is_newest(client, item.provider.hex(), item.lease_hash.hex())]
        with pytest.raises(click.ClickException, match="no accept block"):
            ssh.read_host_key(client, client.get(f"/leases/{deep[0].lease_hash.hex()}"))


def _is_newest(client: ApiClient, provider: str, lease_hash: str) -> bool:
    (newest,) = client.get(f"/accounts/{provider}/chain", limit=1)
    return bool(newest["block"].get("source") == lease_hash)
