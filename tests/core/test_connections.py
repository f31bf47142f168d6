"""Which user is connected where."""

from datetime import UTC, datetime, timedelta

from notify_pipeline.core.ledger import connections
from notify_pipeline.core.ledger.connections import FOREIGN, FOREIGN_LOST, GATEWAY_LOST, Held
from notify_pipeline.core.ledger.engine import Ledger

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANN = ("t", "ann")


def held(connection_id: str, user: str = "ann", gateway: str = "g1", tenant: str = "t") -> Held:
    return Held(tenant, user, connection_id, f"http://{gateway or 'aws'}", gateway)


def found(ledger: Ledger, now: datetime = NOW) -> list[str]:
    return [each.connection_id for each in connections.of_users(ledger, [ANN], now).get(ANN, ())]


def test_connections_are_found_by_user_and_forgotten_one_by_one(ledger: Ledger) -> None:
    one, two, others = held("1"), held("2"), held("3", "bob")
    connections.register(ledger, [one, two, others, held("1", tenant="other")], NOW)
    assert connections.of_users(ledger, [ANN, ("t", "bob"), ("t", "eve")], NOW) == {
        ANN: [one, two],
        ("t", "bob"): [others],
    }
    assert connections.remove(ledger, [("t", "1"), ("t", "gone")]) == 1
    assert found(ledger) == ["2"]
    assert connections.of_users(ledger, [("other", "ann")], NOW)


def test_a_gateway_s_rows_go_with_it(ledger: Ledger) -> None:
    connections.register(ledger, [held("1"), held("2", gateway="g2")], NOW)
    assert connections.remove_gateway(ledger, "g1") == 1
    assert found(ledger) == ["2"]


def test_connections_of_a_gateway_that_died_are_not_found_and_then_forgotten(ledger: Ledger) -> None:
    connections.register(ledger, [held("1"), held("2", gateway="g2")], NOW)
    connections.put(ledger, held("aws", gateway=FOREIGN), NOW)
    later = NOW + GATEWAY_LOST
    assert connections.keep(ledger, "g1", later) == 1
    assert found(ledger, later) == ["1", "aws"]
    assert connections.forget_lost(ledger, NOW + FOREIGN_LOST) == 2
    connections.register(ledger, [held("1")], NOW + FOREIGN_LOST)
    assert found(ledger, NOW + FOREIGN_LOST) == ["1"]
    assert found(ledger, NOW + FOREIGN_LOST + GATEWAY_LOST) == []


def test_a_gateway_that_was_taken_for_lost_tells_of_its_connections_again(ledger: Ledger) -> None:
    """All were cut off from the ledger for minutes; the first that is back forgets the others' connections."""
    one, two = held("1"), held("2", gateway="g2")
    connections.register(ledger, [one, two], NOW)
    later = NOW + GATEWAY_LOST
    assert connections.keep(ledger, "g1", later, [one]) == 1
    assert found(ledger, later) == ["1"]
    assert connections.keep(ledger, "g2", later, [two, held("3", gateway="g2")]) == 0
    assert found(ledger, later) == ["1", "2", "3"]


def test_a_tenant_tells_of_its_own_and_not_of_ours(ledger: Ledger) -> None:
    connections.register(ledger, [held("ours")], NOW)
    assert not connections.put(ledger, held("ours", gateway=FOREIGN), NOW)
    assert connections.put(ledger, held("x", gateway=FOREIGN), NOW)
    assert connections.put(ledger, held("x", "bob", gateway=FOREIGN), NOW + timedelta(hours=1))
    assert found(ledger) == ["ours"]
    assert not connections.remove_foreign(ledger, "t", "ours")
    assert not connections.remove_foreign(ledger, "other", "x")
    assert connections.remove_foreign(ledger, "t", "x")
