"""Which columns of the lake name people, how their rows are found in a hurry, and what they say without the person.

Belongs here: one rule per kind of file. Does not belong here: files (``erasure_lake``), what a text is without a name
(``erasure``).

A rule's mask may find too many rows, never too few; ``changed`` then decides. Both see columns as Arrow has them.

A recipient becomes a placeholder made of its delivery's id: the same in all attempts of a delivery, another for each
recipient, and of another send another one, so that nobody can tell that two were one person. The delivery id itself
stays: reports count by it. It is a keyed digest of tenant, notification and recipient (``ids.DeliveryIds``): it leads
to nobody, and says only to whoever holds both the installation's secret and the address that they belong together.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from notify_pipeline.core.erasure import PLACEHOLDER, Scrubber
from notify_pipeline.core.ids import from_micros
from notify_pipeline.core.ledger.erasure_texts import PLACEHOLDER_DIGITS, audited
from notify_pipeline.core.schemas import ATTEMPTS, AUDIT, EVENTS, QUARANTINE, REGISTRATIONS, REQUESTS

Row = Mapping[str, Any]
# What a registration says beside its token and what became of it.
_SAID: Mapping[str, Any] = {"user_id": None, "topics": [], "app_version": None, "locale": None, "timezone": None}


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of file.

    Attributes:
        columns: That its mask looks at.
        mask: Which rows may name the person.
        changed: What a row says without the person, of the columns that change; empty where it does not name them.
    """

    columns: tuple[str, ...]
    mask: Callable[[pa.Table], pa.ChunkedArray]
    changed: Callable[[Row], dict[str, Any]]


class Rules:
    """The rules for one person.

    Args:
        scrubber: Knows the names.
        until: What was accepted, registered or told later is new (microseconds since the epoch).
        live: Tokens that were registered anew since.
    """

    def __init__(self, scrubber: Scrubber, until: int, live: frozenset[str] = frozenset()) -> None:
        self._scrubber = scrubber
        self._subject = scrubber.subject
        self._until = pa.scalar(from_micros(until), pa.timestamp("us", tz="UTC"))
        self._live = live
        self.of_tables: Mapping[str, Rule] = {
            REGISTRATIONS.name: self._rule(("token", "user_id"), (), self._registration, "at"),
            REQUESTS.name: self._rule((), ("body", "title", "collapse_key"), self._request, "accepted_at"),
            AUDIT.name: self._rule(("actor", "request_id"), ("detail",), self._audit, "at"),
            ATTEMPTS.name: self._rule(("recipient", "user_id"), (), self._attempt, None),
            EVENTS.name: self._rule(("event_id",), ("detail", "reason"), self._event, "accepted_at"),
            QUARANTINE.name: self._rule((), ("raw",), self._line, None, tenant=False),
        }
        self.of_snapshots = self._rule(("recipient", "user_id"), ("fields",), self._snapshot, None, tenant=False)
        self.of_base = self._rule(("token", "user_id"), (), self._base, None)
        self.of_old_base = self._rule(("token", "user_id"), (), self._registration, None, tenant=False)

    def placeholder(self, address: str) -> str:
        """Return what stands for an address in all files that must go on agreeing about it."""
        digest = hmac.digest(self._subject.salt.encode(), address.encode(), hashlib.sha256).hex()
        return PLACEHOLDER + digest[:PLACEHOLDER_DIGITS]

    def _rule(
        self,
        names: tuple[str, ...],
        texts: tuple[str, ...],
        changed: Callable[[Row], dict[str, Any]],
        dated: str | None,
        tenant: bool = True,
    ) -> Rule:
        scrubber = self._scrubber
        known = scrubber.names | self._subject.requests | self._subject.events
        values, mails = pa.array(sorted(known), pa.string()), pa.array(sorted(self._subject.emails), pa.string())

        def mask(table: pa.Table) -> pa.ChunkedArray:
            found = [pc.is_in(table[name], value_set=values) for name in names if name in table.column_names]
            if len(mails):
                found += [
                    pc.is_in(pc.utf8_lower(table[name]), value_set=mails)
                    for name in names
                    if name in table.column_names
                ]
            for name in texts:
                if name in table.column_names:
                    found += [pc.match_substring(table[name], each) for each in scrubber.needles]
                    found += [pc.match_substring(table[name], each, ignore_case=True) for each in scrubber.mail_needles]
            anywhere = reduce(pc.or_kleene, found)
            if tenant:
                anywhere = pc.and_kleene(anywhere, pc.equal(table["tenant"], self._subject.tenant))
            if dated is not None:
                anywhere = pc.and_kleene(anywhere, pc.less_equal(table[dated], self._until))
            return pc.fill_null(anywhere, False)

        own = (("tenant",) if tenant else ()) + (() if dated is None else (dated,))
        return Rule((*own, *names, *texts), mask, changed)

    def _is_mine(self, address: str | None) -> bool:
        return self._scrubber.is_name(address)

    def _registration(self, row: Row) -> dict[str, Any]:
        # A token that another has by now keeps its history, without whose it was.
        return {**({"token": self.placeholder(row["token"])} if self._is_mine(row["token"]) else {}), **_SAID}

    def _base(self, row: Row) -> dict[str, Any]:
        if row["token"] in self._live or row["op"] == "upsert":
            return {}
        return {**({"token": self.placeholder(row["token"])} if self._is_mine(row["token"]) else {}), **_SAID}

    def _request(self, row: Row) -> dict[str, Any]:
        scrubbed = self._scrubber.body(orjson.loads(row["body"]))
        if not scrubbed.named:
            return {}
        optional = self._scrubber.optional
        return {
            "body": _stored(scrubbed.body),
            "title": None if scrubbed.alone else optional(row["title"]),
            "collapse_key": optional(row["collapse_key"]),
            "topics": None if row["topics"] is None else [self._scrubber.text(each) for each in row["topics"]],
        }

    def _audit(self, row: Row) -> dict[str, Any]:
        new = audited(self._scrubber, self._subject.requests, row)
        return {name: value for name, value in new.items() if value != row[name]}

    def _attempt(self, row: Row) -> dict[str, Any]:
        return {
            "recipient": PLACEHOLDER + row["delivery_id"][:PLACEHOLDER_DIGITS],
            "user_id": None if self._is_mine(row["user_id"]) else row["user_id"],
            "provider_message_id": None,  # by which the provider knows whom it reached
        }

    def _event(self, row: Row) -> dict[str, Any]:
        if row["event_id"] in self._subject.events:
            new: dict[str, Any] = {"detail": "{}", "reason": self._scrubber.optional(row["reason"])}
        else:
            detail = row["detail"]
            new = {"detail": None if detail is None else self._scrubber.json(detail)}
            new["reason"] = self._scrubber.optional(row["reason"])
        return {name: value for name, value in new.items() if value != row[name]}

    def _line(self, row: Row) -> dict[str, Any]:
        raw = self._scrubber.text(row["raw"])
        return {} if raw == row["raw"] else {"raw": raw}

    def _snapshot(self, row: Row) -> dict[str, Any]:
        if not (self._is_mine(row["recipient"]) or self._is_mine(row["user_id"])):
            return {}
        gone = dict.fromkeys(("user_id", "locale", "timezone", "app_version", *(["fields"] if "fields" in row else [])))
        return {"recipient": self.placeholder(row["recipient"]), **gone}


def _stored(body: Mapping[str, Any]) -> str:
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()
