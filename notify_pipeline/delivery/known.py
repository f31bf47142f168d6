"""The recipients of sends that name them, by user, visitor, device token or address: found in the ledger, as of now.

Belongs here: from names to recipients, on each channel that a send wants. Does not belong here: audiences that the lake
counts out (``audience``), what becomes of recipients (``planning``), who may not be written to (``consenting``).

A user has devices, and an address on other channels where a send wants these: the e-mail subscriptions that are
registered for them and the e-mail address of their profile, the phone number of their profile, and for what reaches
people rather than things (WebSocket, inbox) their own id.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from notify_pipeline.core.ledger import contacts, devices, letters, users
from notify_pipeline.core.ledger.contact_rows import Contact
from notify_pipeline.core.ledger.devices import Device
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.suppressions import key_of
from notify_pipeline.core.records import Audience, Notification, Recipient
from notify_pipeline.core.vocabulary import PUSH_CHANNELS, Channel, Platform

# What is registered; the ids of users are the addresses of the others.
_REGISTERED = PUSH_CHANNELS | {Channel.EMAIL}
_PROFILE = frozenset({Channel.EMAIL, Channel.SMS})
_BY_USER = (Platform.WEBSOCKET, Platform.INBOX)


@dataclass(frozen=True, slots=True)
class Known:
    """The recipients of a send that names them: ``unregistered`` are tokens that nobody registered."""

    recipients: Sequence[Recipient]
    unregistered: Sequence[str] = ()


@dataclass(slots=True)
class _Book:
    """What the ledger says of whomever some sends of one tenant name."""

    by_user: dict[str, list[Device]] = field(default_factory=dict)
    by_token: dict[str, Device] = field(default_factory=dict)
    by_visitor: dict[tuple[str, str], list[Recipient]] = field(default_factory=dict)  # domain, guid
    told: Mapping[str, users.Contact] = field(default_factory=dict)
    # By request and address, of replays: a letter's user, though its address is no registration.
    whose: dict[tuple[str, str], str] = field(default_factory=dict)


def wanted_channels(notification: Notification) -> frozenset[Channel]:
    """Return the channels that a send may use: those that it names, else push and what its audience is made of."""
    if notification.channels is not None:
        return notification.channels
    audience = notification.audience
    if audience.emails or audience.phones:
        return PUSH_CHANNELS | {Channel.EMAIL, Channel.SMS}
    return PUSH_CHANNELS


def find_known(ledger: Ledger, notifications: Iterable[Notification]) -> dict[str, Known]:
    """Find the recipients of sends that name users, devices or addresses, by request.

    Sends of one tenant are looked up together: thousands of sends to one user each are a handful of queries. Profiles
    are read only where a send wants a channel that needs them.
    """
    by_tenant: dict[str, list[Notification]] = {}
    for notification in notifications:
        by_tenant.setdefault(notification.tenant, []).append(notification)
    found: dict[str, Known] = {}
    for tenant, mine in by_tenant.items():
        book = _read(ledger, tenant, mine)
        found.update((n.request_id, _known(n, book)) for n in mine)
    return found


def _read(ledger: Ledger, tenant: str, mine: Sequence[Notification]) -> _Book:
    wanted = {n.request_id: wanted_channels(n) for n in mine}

    def named(channels: frozenset[Channel]) -> list[str]:
        return sorted({user for n in mine if wanted[n.request_id] & channels for user in n.audience.users})

    book = _Book()
    if people := named(_REGISTERED):
        for device in devices.find_by_users(ledger, tenant, people):
            book.by_user.setdefault(str(device.user_id), []).append(device)
    if tokens := {token for n in mine for token in _tokens(n.audience)}:
        book.by_token = {d.token: d for d in devices.find_by_tokens(ledger, tenant, sorted(tokens))}
    if domains := {n.audience.domain for n in mine if n.audience.visitors and n.audience.domain is not None}:
        _read_visitors(ledger, tenant, mine, domains, book)
    if people := named(_PROFILE):
        book.told = users.contacts(ledger, tenant, people)
    for n in mine:
        if n.replay_of is not None and (n.audience.emails or n.audience.phones):
            theirs = letters.users_of(ledger, n.replay_of, n.request_id)
            book.whose.update(((n.request_id, address), user_id) for address, user_id in theirs.items())
    return book


def _read_visitors(
    ledger: Ledger, tenant: str, mine: Sequence[Notification], domains: Iterable[str], book: _Book
) -> None:
    for domain in sorted(domains):
        guids = {visitor.guid for n in mine if n.audience.domain == domain for visitor in n.audience.visitors}
        for contact in contacts.find_by_visitors(ledger, tenant, domain, guids):
            key = (domain, str(contact.visitor_guid))
            book.by_visitor.setdefault(key, []).append(_recipient(contact))


def _tokens(audience: Audience) -> Iterable[str]:
    yield from audience.devices
    for address in audience.emails:
        yield address
        yield key_of(Channel.EMAIL, address)


def _known(n: Notification, book: _Book) -> Known:
    audience, wanted = n.audience, wanted_channels(n)
    mine = {device.token: device for user in audience.users for device in book.by_user.get(user, ())}
    mine.update({token: book.by_token[token] for token in audience.devices if token in book.by_token})
    unregistered = sorted({token for token in audience.devices if token not in book.by_token})
    registered = [_recipient(mine[token]) for token in sorted(mine)]
    if own := audience.device_fields:
        registered = [recipient._replace(fields=own.get(recipient.address)) for recipient in registered]
    if audience.visitors:
        registered.extend(_of_visitors(audience, book))
    # Nearly every send ends here.
    if wanted <= PUSH_CHANNELS:
        return Known(registered, unregistered)
    found: dict[tuple[Channel, str], Recipient] = {}
    for recipient in (*registered, *_of_users(audience, wanted, book), *_of_addresses(n, book)):
        channel = recipient.platform.channel
        found.setdefault((channel, key_of(channel, recipient.address)), recipient)
    return Known(list(found.values()), unregistered)


def _of_visitors(audience: Audience, book: _Book) -> Iterable[Recipient]:
    """Yield the contacts of visitors, each with its visitor's fields; of a visitor named twice the last ones count."""
    for guid, fields in dict(audience.visitors).items():
        own = orjson.dumps(fields).decode() if fields else None
        for recipient in book.by_visitor.get((str(audience.domain), guid), ()):
            yield recipient if own is None else recipient._replace(fields=own)


def _of_users(audience: Audience, wanted: frozenset[Channel], book: _Book) -> Iterable[Recipient]:
    nothing = users.Contact(None, None)
    for user in dict.fromkeys(audience.users):
        told = book.told.get(user, nothing)
        if told.email is not None and Channel.EMAIL in wanted:
            yield Recipient(told.email, Platform.EMAIL, user, told.locale, told.timezone)
        if told.phone is not None and Channel.SMS in wanted:
            yield Recipient(told.phone, Platform.SMS, user, told.locale, told.timezone)
        for platform in _BY_USER:
            if platform.channel in wanted:
                yield Recipient(user, platform, user, told.locale, told.timezone)


def _of_addresses(n: Notification, book: _Book) -> Iterable[Recipient]:
    for address in n.audience.emails:
        device = book.by_token.get(address) or book.by_token.get(key_of(Channel.EMAIL, address))
        if device is not None and device.platform is Platform.EMAIL:
            found = _recipient(device)._replace(address=address)
        else:
            found = Recipient(address, Platform.EMAIL)
        whose = book.whose.get((n.request_id, address))
        yield found if whose is None else found._replace(user_id=whose)
    for number in n.audience.phones:
        yield Recipient(number, Platform.SMS, book.whose.get((n.request_id, number)))


def _recipient(device: Device | Contact) -> Recipient:
    return Recipient(device.token, device.platform, device.user_id, device.locale, device.timezone, device.app_version)
