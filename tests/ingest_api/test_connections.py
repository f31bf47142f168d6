"""Connections that API Gateway holds: what is stored of them, and where they may be."""

from typing import Any

import pytest

from notify_pipeline.core.ledger import connections
from notify_pipeline.core.ledger.connections import FOREIGN, Held
from tests.ingest_api.conftest import House, build, copied, fields_of

AWS = "https://a1b2c3.execute-api.eu-west-1.amazonaws.com/production"
PATH = "/connections/L0SM9cOFvHcCIhw="


def told(house: House) -> list[Held]:
    key = (house.mine.tenant, "ann")
    return connections.of_users(house.services.ledger, [key], house.clock()).get(key, [])


def test_a_connection_is_told_replaced_and_forgotten(any_house: House) -> None:
    house = any_house
    shown = house.secret.ok("PUT", PATH, {"user_id": "bob", "endpoint": AWS})
    assert shown == {"connection_id": "L0SM9cOFvHcCIhw=", "user_id": "bob", "endpoint": AWS}
    house.secret.ok("PUT", PATH, {"user_id": "ann", "endpoint": AWS})
    assert told(house) == [Held(house.mine.tenant, "ann", "L0SM9cOFvHcCIhw=", AWS, FOREIGN)]
    assert house.secret.call("DELETE", PATH).status_code == 204
    assert house.secret.call("DELETE", PATH).status_code == 404
    assert told(house) == []


def test_our_own_gateways_connections_are_not_told_otherwise(house: House) -> None:
    ours = Held(house.mine.tenant, "ann", "ours", "http://gateway:8081", "g1")
    connections.register(house.services.ledger, [ours], house.clock())
    refused = house.secret.call("PUT", "/connections/ours", {"user_id": "bob", "endpoint": AWS})
    assert refused.status_code == 409
    assert fields_of(refused) == {"connection_id"}
    assert house.secret.call("DELETE", "/connections/ours").status_code == 404
    assert told(house) == [ours]


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://a1b2c3.execute-api.eu-west-1.amazonaws.com/production",
        "https://169.254.169.254/latest",
        "https://localhost/x",
        "https://evil.example/x",
        "https://a.execute-api.eu-west-1.amazonaws.com.evil.example/x",
        "https://evil.example/.execute-api.eu-west-1.amazonaws.com",
        "https://x@a.execute-api.eu-west-1.amazonaws.com/x",
        "https://a.execute-api.eu-west-1.amazonaws.com:8443/x",
        "https://a.b.execute-api.eu-west-1.amazonaws.com/x",
        "https://a.execute-api.eu-west-1.amazonaws.com/x/../y",
        "https://a.execute-api.eu-west-1.amazonaws.com/x?y",
        "https://sqs.eu-west-1.amazonaws.com/x",
    ],
)
def test_nowhere_but_api_gateway_is_posted_to(house: House, endpoint: str) -> None:
    refused = house.secret.call("PUT", PATH, {"user_id": "ann", "endpoint": endpoint})
    assert refused.status_code == 422
    assert fields_of(refused) == {"endpoint"}


def test_an_installation_may_allow_hosts_of_its_own(tmp_path: Any, migrated: Any) -> None:
    for house in build(copied(migrated, tmp_path), gateway_foreign_hosts=("ws.example.com",)):
        house.secret.ok("PUT", PATH, {"user_id": "ann", "endpoint": "https://ws.example.com/"})
        assert [held.endpoint for held in told(house)] == ["https://ws.example.com"]
        refused = house.secret.call("PUT", PATH, {"user_id": "ann", "endpoint": "https://other.example.com/"})
        assert refused.status_code == 422
