"""What the lake's tables and their columns mean, in words: for the shell, the catalogue and the docs.

Belongs here: one sentence per table and column. Does not belong here: names and types (``schemas``).
"""

from typing import Final

# By table: what a row is, and what each of its columns says. The partition's columns are the same everywhere.
PARTITION: Final = {
    "date": "The partition's day, UTC. Name it in WHERE: whole folders are then left unread.",
    "hour": "The partition's hour, 00 to 23, UTC.",
}
_TENANT = "The product's or organization's id."
_NOTIFICATION = "The tenant's own id of the notification."
_REQUEST = "Our id of the request that made it."
_DELIVERY = "One recipient on one channel: the same in every retry."

TABLE_COMMENTS: Final = {
    "registrations": "One row per change of a device token. The one with the greatest revision says how it stands.",
    "requests": "One row per accepted request, and one more for each edit: the greatest revision says what was sent.",
    "audit": "One row per move of a request, and per act of an admin, a key or a policy.",
    "audiences": "How many recipients a request was planned for, by channel and platform.",
    "attempts": "One row per attempt to reach a recipient, with its outcome.",
    "events": "One row per state that an event reached. The one with the greatest at says where it stands.",
    "receipts": "One row per beacon in the CDN's logs, in the partition of its log file's hour.",
    "quarantine": "Log lines that are no beacon although they should be, in the partition of their log file's hour.",
}

COLUMN_COMMENTS: Final[dict[str, dict[str, str]]] = {
    "registrations": {
        "tenant": _TENANT,
        "token": "The address at the provider: device token, browser endpoint.",
        "platform": "android, ios, web and so on.",
        "user_id": "Whose device it is, as the tenant calls them; null: nobody said.",
        "topics": "What it is subscribed to after this change.",
        "app_version": "As the app said.",
        "locale": "As the app said.",
        "timezone": "As the app said; an IANA name.",
        "op": "What was done: upsert (registered or changed), delete (by the app or the tenant), drop (found dead).",
        "reason": "Why it was dropped.",
        "revision": "Grows by one with each change of this tenant's token.",
        "at": "When.",
        "domain": "The domain whose contact it is; null: it is no browser contact.",
        "previous": "What the token's op was before; null: it is new, or the row was written before this was noted.",
    },
    "requests": {
        "tenant": _TENANT,
        "request_id": "Our id.",
        "notification_id": _NOTIFICATION,
        "type": "What kind of notification, as the tenant calls it.",
        "category": "What users may refuse.",
        "priority": "high, normal or low.",
        "title": "The content's title.",
        "topics": "The topics that it was sent to; empty: it named its recipients otherwise.",
        "collapse_key": "A later notification with the same one replaces it on the device.",
        "dry_run": "True: nothing was shown to anybody.",
        "accepted_at": "When the API accepted it.",
        "send_at": "When it was to be sent; null: at once.",
        "expires_at": "After this nobody is sent to any more.",
        "body": "The request as canonical JSON.",
        "revision": "How often it had been edited; null: never.",
        "domain": "The domain whose contacts it is for; null: it is for others.",
    },
    "audit": {
        "audit_id": "Unique.",
        "tenant": _TENANT + " Null: it concerns the installation.",
        "request_id": "Of which request; null: of none.",
        "notification_id": _NOTIFICATION + " Null: of none.",
        "event": "What happened.",
        "from_state": "The request's state before.",
        "to_state": "The request's state after.",
        "actor": "Who did it: a part of the system, or a key.",
        "detail": "JSON.",
        "at": "When.",
    },
    "audiences": {
        "tenant": _TENANT,
        "request_id": _REQUEST,
        "notification_id": _NOTIFICATION,
        "channel": "fcm, apns, webpush, email, sms, websocket or inbox.",
        "platform": "android, ios, web and so on.",
        "recipients": "How many.",
        "at": "When they were counted.",
    },
    "attempts": {
        "notification_id": _NOTIFICATION,
        "tenant": _TENANT,
        "request_id": _REQUEST,
        "channel": "fcm, apns, webpush, email, sms, websocket or inbox.",
        "platform": "android, ios, web and so on.",
        "provider": "Who was called: fcm, apns and so on.",
        "recipient": "The address: token, e-mail address, phone number, connection, user.",
        "user_id": "Whose it was when it was sent.",
        "delivery_id": _DELIVERY,
        "shard": "The part of a broadcast; null: a small send.",
        "attempt_no": "From 1, by delivery.",
        "sent_at": "When the call began.",
        "answered_at": "When the provider answered; null: it did not, or was not called.",
        "outcome": "How it ended: accepted, invalid_recipient, throttled, transient, permanent, ambiguous, skipped, "
        "dry_run or expired.",
        "provider_code": "The provider's word; also why an attempt was skipped or expired.",
        "provider_message_id": "The provider's id of the message.",
        "run_id": "Which run made it.",
        "consent": "On what word of its user it was sent or skipped; null: nobody was asked.",
    },
    "events": {
        "tenant": _TENANT,
        "event_id": "Our id.",
        "source": "Where it comes from, as the tenant calls it.",
        "type": "What kind of event, as the tenant calls it.",
        "id": "The tenant's own id.",
        "state": "The state that it reached.",
        "routes": "The routes that it took.",
        "notification_ids": "The notifications that it made.",
        "reason": "Why it failed.",
        "detail": "What was sent with it, as JSON.",
        "accepted_at": "When the API accepted it.",
        "at": "When it reached this state.",
    },
    "receipts": {
        "event": "received, opened or clicked.",
        "notification_id": "As the beacon says; who signs it is checked by the reports.",
        "platform": "As the beacon says.",
        "provider": "As the beacon says.",
        "delivery_id": _DELIVERY,
        "at": "When the CDN saw it.",
        "action": "The button that was clicked; nobody vouches for it.",
    },
    "quarantine": {
        "source_file": "The log file.",
        "line_no": "From 1.",
        "reason": "Why it was refused.",
        "raw": "The first kilobyte.",
        "at": "The log file's hour.",
    },
}
