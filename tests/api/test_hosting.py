"""The operator's switch for new leases."""

from pathlib import Path

from tests.support.ledger import NOW
from tests.support.node_port import running_api
from xnode.api.settings import ApiSettings
from xnode.core.faults import NotFound


def test_a_provider_is_drained_and_comes_back(tmp_path: Path) -> None:
    with running_api(tmp_path) as running:
        assert running.http.get("/provider").json()["closed"] == ""
        drained = running.http.post("/provider/drain", json={}).json()
        assert (drained["closed"], drained["draining_since"]) == ("draining", NOW)
        assert running.http.get("/provider").json() == drained
        assert running.http.post("/provider/undrain", json={}).json()["draining_since"] == 0


def test_only_the_operator_drains(tmp_path: Path) -> None:
    with running_api(tmp_path, ApiSettings(port=0, token="secret")) as running:
        assert running.http.post("/provider/drain", json={}).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert running.http.post("/provider/drain", json={}, headers=headers).status_code == 200


def test_a_node_without_machines_says_so(tmp_path: Path) -> None:
    with running_api(tmp_path) as running:
        running.node.faults["drain"] = NotFound("not_a_provider", "this node hosts no machines")
        assert running.http.post("/provider/drain", json={}).status_code == 404
