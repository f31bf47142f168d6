"""Suppressions: one per mailbox however it is spelled, the strongest reason stays, every change is one audit row."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from notify_pipeline.core.ledger import sms_stops, suppressions, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.suppressions import NewSuppression, SuppressionFilter
from notify_pipeline.core.ledger.tables import AUDIT
from notify_pipeline.core.mail_addresses import is_mail_address, masked
from notify_pipeline.core.vocabulary import Channel, SuppressionReason

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BOUNCE, COMPLAINT, MANUAL = SuppressionReason.HARD_BOUNCE, SuppressionReason.COMPLAINT, SuppressionReason.MANUAL


def new(
    address: str, reason: SuppressionReason = BOUNCE, channel: Channel = Channel.EMAIL, tenant: str = "t1"
) -> NewSuppression:
    return NewSuppression(tenant, channel, address, reason, "5.1.1", "delivery")


def found(ledger: Ledger, *addresses: str, channel: Channel = Channel.EMAIL, tenant: str = "t1") -> dict[str, str]:
    with ledger.read() as conn:
        return dict(suppressions.find(conn, tenant, channel, addresses))


def test_all_spellings_of_a_mailbox_are_found_and_nobody_else_s(ledger: Ledger) -> None:
    suppressions.add(ledger, new("Ada@Example.com"), NOW)
    suppressions.add(ledger, new("+447700900123", channel=Channel.SMS), NOW)
    asked = ("ada@example.com", "ADA@EXAMPLE.COM", "ada+x@example.com", "+447700900123")
    assert found(ledger, *asked) == {"ada@example.com": BOUNCE, "ADA@EXAMPLE.COM": BOUNCE}
    assert found(ledger, *asked, tenant="t2") == {}
    assert found(ledger, *asked, channel=Channel.SMS) == {"+447700900123": BOUNCE}
    many = [f"a{number}@example.com" for number in range(2_500)]
    suppressions.add_many(ledger, [new(address) for address in many[::2]], NOW)
    assert set(found(ledger, *many)) == set(many[::2])


def test_the_strongest_reason_stays_and_every_change_is_audited_once(ledger: Ledger) -> None:
    address = "ada@example.com"
    for reason, stays in [(BOUNCE, BOUNCE), (BOUNCE, BOUNCE), (COMPLAINT, COMPLAINT), (MANUAL, COMPLAINT)]:
        assert suppressions.add(ledger, new(address, reason), NOW).reason is stays
    assert suppressions.remove(ledger, "t1", Channel.EMAIL, "ADA@example.com", "key", NOW)
    assert not suppressions.remove(ledger, "t1", Channel.EMAIL, address, "key", NOW)
    assert found(ledger, address) == {}
    with ledger.read() as conn:
        rows = conn.execute(select(AUDIT.c.event, AUDIT.c.actor, AUDIT.c.detail).order_by(AUDIT.c.audit_id)).all()
    assert [(row.event, row.actor) for row in rows] == [
        ("suppression.added", "delivery"),
        ("suppression.added", "delivery"),
        ("suppression.removed", "key"),
    ]
    assert not any("ada@" in row.detail for row in rows)


def test_a_tenant_s_channels_with_suppressions_are_told_at_once(ledger: Ledger) -> None:
    with ledger.read() as conn:
        assert suppressions.any_of(conn, ["t1", "t2"]) == {}
    suppressions.add(ledger, new("ada@example.com"), NOW)
    with ledger.read() as conn:
        assert suppressions.any_of(conn, ["t1", "t2"]) == {"t1": {Channel.EMAIL}}


@pytest.mark.parametrize("where", [SuppressionFilter(), SuppressionFilter(channel=Channel.EMAIL, reason=BOUNCE)])
def test_pages_hold_each_once_newest_first(ledger: Ledger, where: SuppressionFilter) -> None:
    addresses = [f"a{number:02d}@example.com" for number in range(25)]
    for number, address in enumerate(addresses):
        suppressions.add(ledger, new(address), NOW + timedelta(seconds=number // 3))
    suppressions.add(ledger, new("x@example.com", tenant="t2"), NOW)
    seen, after = [], None
    while True:
        rows, after = suppressions.page(ledger, "t1", where, 7, after)
        seen += rows
        if after is None:
            break
    assert [row.address for row in seen] == sorted(addresses, key=lambda a: (int(a[1:3]) // 3, a), reverse=True)
    only, _ = suppressions.page(ledger, "t1", SuppressionFilter(address="A07@example.com"), 7)
    assert [row.address for row in only] == ["a07@example.com"]


@given(st.emails())
def test_a_mask_hides_the_name(address: str) -> None:
    name = address.rpartition("@")[0]
    assert len(name) < 2 or name not in masked(address).rpartition("@")[0]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("ada@example.com", True),
        ("o'neil+tag@mail.example.co.uk", True),
        ("root@localhost", True),
        ("ada@xn--mnchen-3ya.de", True),
        ("a" * 65 + "@example.com", False),
        ("a@" + "b." * 130 + "com", False),
        ("ada@example.com\n", False),
        ("ada@example.com\r\nBcc: eve@example.com", False),
        ("Ada <ada@example.com>", False),
        ("ada@example.com,eve@example.com", False),
        ("a..b@example.com", False),
        ("@example.com", False),
        ("ada@-example.com", False),
        ("äda@example.com", False),
    ],
)
def test_what_an_address_looks_like(text: str, is_one: bool) -> None:
    assert is_mail_address(text) is is_one


def test_a_stop_is_everybodys_and_start_lifts_each_row_of_it_with_an_audit_row(ledger: Ledger) -> None:
    number, stop = "+447700900123", SuppressionReason.STOP
    tenant = tenants.create_product(ledger, "one", (), NOW).tenant
    suppressions.add(ledger, new(number, stop, Channel.SMS, tenant), NOW)
    suppressions.add(ledger, new("+447700900124", stop, Channel.SMS, tenant), NOW)
    sms_stops.stop(ledger, number, None, "twilio", NOW)
    sms_stops.stop(ledger, number, None, "twilio", NOW + timedelta(hours=1))
    assert sms_stops.stopped_at(ledger, number) == NOW
    assert found(ledger, number, channel=Channel.SMS, tenant="another") == {number: stop}
    assert found(ledger, number, channel=Channel.EMAIL, tenant="another") == {}
    with ledger.read() as conn:
        assert suppressions.any_of(conn, ["another"]) == {"another": {Channel.SMS}}
    assert sms_stops.start(ledger, number, "twilio", NOW)
    assert not sms_stops.start(ledger, number, "twilio", NOW)
    assert sms_stops.stopped_at(ledger, number) is None
    assert found(ledger, number, channel=Channel.SMS, tenant=tenant) == {}
    assert found(ledger, "+447700900124", channel=Channel.SMS, tenant=tenant) == {"+447700900124": stop}
    with ledger.read() as conn:
        rows = conn.execute(select(AUDIT).where(AUDIT.c.event == "suppression.removed")).all()
    assert {row.tenant for row in rows} == {None, tenant}
    assert not any(number in row.detail for row in rows)
