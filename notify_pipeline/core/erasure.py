"""Erasure: which names a person goes by, and taking them out of texts and JSON.

Belongs here: the pure rules. Does not belong here: where names are stored (``erasure_map``), finding a person's names
and rewriting the ledger (``ledger.erasures``, ``ledger.erasure_rows``), rewriting the lake (``erasure_lake``).

Addresses and tokens are told from anything else by their form, and so are found wherever they are. What a tenant calls
a user or a visitor may be any word: one that is long enough to be no accident is found wherever it is no part of a
longer name, a short one only where people are named.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import orjson

from notify_pipeline.core.mail_addresses import folded

# What stands where a name was, and how what stands for one delivery's recipient begins; no address has this form.
ERASED = "erased"
PLACEHOLDER = "erased:"
# A shorter id is looked for only where people are named: "42" is in many texts that are about nobody.
SHORTEST_ANYWHERE = 6
# Such places, beside ours.
_PEOPLE = re.compile(r"(user|customer|owner|visitor|recipient|member|liker|actor)s?[_-]?(id|guid)?s?$", re.IGNORECASE)
# Of bodies: who a send is for, one name each.
NAME_LISTS = ("users", "emails", "phones", "devices")
# What tenants and we call things, never people; reports and repeated requests find things by them.
_IDS = frozenset({"id", "notification_id", "request_id", "event_id"})
_SETS = ("emails", "phones", "tokens", "guids", "pictures", "requests", "events")


@dataclass(frozen=True, slots=True)
class Subject:
    """One person's names with one tenant.

    Attributes:
        tenant: Whose person.
        user_id: As a user.
        emails: In lower case.
        phones: E.164.
        tokens: Devices' and what pages call theirs.
        guids: As a visitor of domains.
        pictures: Addresses of the person's own picture.
        requests: Sends that were for this person alone.
        events: Likewise.
        salt: Makes placeholders of tokens; forgotten with the names.
    """

    tenant: str
    user_id: str | None = None
    emails: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    tokens: frozenset[str] = frozenset()
    guids: frozenset[str] = frozenset()
    pictures: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    salt: str = ""

    @property
    def addresses(self) -> frozenset[str]:
        """Where deliveries go; e-mail in lower case, a user's inbox and connections by the user."""
        return self.emails | self.phones | self.tokens | ({self.user_id} if self.user_id is not None else frozenset())

    @property
    def recipients(self) -> frozenset[str]:
        """What frequency caps and preferences call the person (``consents.recipient``)."""
        found = {f"device:{each}" for each in self.emails | self.phones | self.tokens}
        return frozenset(found if self.user_id is None else {*found, f"user:{self.user_id}"})

    def stored(self) -> str:
        """Return it as JSON."""
        sets = {name: sorted(getattr(self, name)) for name in _SETS}
        return orjson.dumps({"tenant": self.tenant, "user_id": self.user_id, "salt": self.salt, **sets}).decode()

    @classmethod
    def of(cls, stored: str) -> Self:
        """Return what was stored."""
        values = orjson.loads(stored)
        sets = {name: frozenset(values[name]) for name in _SETS}
        return cls(values["tenant"], values["user_id"], salt=values["salt"], **sets)


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A body without the person: ``named`` if it had been there, ``alone`` if it was for nobody else."""

    body: dict[str, Any]
    named: bool
    alone: bool


@dataclass(frozen=True)
class Scrubber:
    """Takes one person's names out of whatever is given to it."""

    subject: Subject
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the names that are found as whole values."""
        mine = self.subject
        user = set() if mine.user_id is None else {mine.user_id}
        object.__setattr__(
            self, "names", frozenset(mine.addresses | mine.recipients | mine.guids | mine.pictures | user)
        )

    @cached_property
    def short(self) -> frozenset[str]:
        """Names that are only found where people are named."""
        mine = self.subject
        ids = mine.guids | ({mine.user_id} if mine.user_id is not None else frozenset[str]())
        return frozenset(each for each in ids if len(each) < SHORTEST_ANYWHERE)

    @cached_property
    def needles(self) -> tuple[str, ...]:
        """What any text has in it that is longer than a name and holds one, as it is and as JSON writes it.

        E-mail addresses are in ``mail_needles``: they come in any case.
        """
        found = {each for each in self.names if each not in self.short and each not in self.subject.emails}
        written = {orjson.dumps(each).decode()[1:-1] for each in found}
        return tuple(sorted(found | written | {orjson.dumps(each).decode() for each in self.short}))

    @cached_property
    def mail_needles(self) -> tuple[str, ...]:
        """Likewise, of texts in lower case."""
        return tuple(sorted(self.subject.emails))

    @cached_property
    def _within(self) -> re.Pattern[str] | None:
        mine = self.subject
        ids = mine.guids | ({mine.user_id} if mine.user_id is not None else frozenset())
        parts = [
            rf"(?<![\w.+-])(?i:{re.escape(each)})(?![\w-]|\.\w)" for each in sorted(mine.emails, key=len, reverse=True)
        ]
        parts += [rf"{re.escape(each)}(?!\d)" for each in sorted(mine.phones)]
        parts += [rf"(?<![\w-]){re.escape(each)}(?![\w-])" for each in sorted(mine.tokens | mine.pictures)]
        parts += [
            rf"(?<![\w@.:+-])(?:user:)?{re.escape(each)}(?![\w@+-]|[.:]\w)"
            for each in sorted(ids, key=len, reverse=True)
            if len(each) >= SHORTEST_ANYWHERE
        ]
        return re.compile("|".join(parts)) if parts else None

    def is_name(self, text: object) -> bool:
        """Tell whether a whole value is one of the names."""
        return isinstance(text, str) and (text in self.names or ("@" in text and folded(text) in self.names))

    def text(self, text: str) -> str:
        """Return a text without the names."""
        if text not in self.short and self.is_name(text):
            return ERASED
        return text if self._within is None else self._within.sub(ERASED, text)

    def optional(self, text: str | None) -> str | None:
        """Likewise; None stays."""
        return None if text is None else self.text(text)

    def value(self, value: Any) -> Any:
        """Return a JSON value without the names; of lists of people it takes them out."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, dict):
            return {
                (ERASED if self.is_name(name) else name): self._member(name, member) for name, member in value.items()
            }
        return value

    def json(self, stored: str) -> str:
        """Return stored JSON without the names, byte by byte as it was where there are none."""
        value = orjson.loads(stored)
        scrubbed = self.value(value)
        return stored if scrubbed == value else orjson.dumps(scrubbed, option=orjson.OPT_SORT_KEYS).decode()

    def body(self, body: Mapping[str, Any]) -> Scrubbed:
        """Return a send's body without the person; where it was for nobody else, without its texts too."""
        people = [body.get(name, ()) for name in NAME_LISTS] + [self._guids(body.get("visitors", ()))]
        removed = any(self.is_name(each) for names in people for each in names)
        others = any(not self.is_name(each) for names in people for each in names)
        counted_out = body.get("topics") or body.get("everyone")
        alone = removed and not others and not counted_out
        scrubbed = self.value(dict(body))
        if alone:
            scrubbed |= {name: _bare(scrubbed[name]) for name in ("content",) if name in scrubbed}
            if "overrides" in scrubbed:
                scrubbed["overrides"] = {on: _bare(each) for on, each in (scrubbed["overrides"] or {}).items()}
            scrubbed.pop("fields", None)
        return Scrubbed(scrubbed, removed or scrubbed != body, alone)

    def event(self, body: Mapping[str, Any]) -> Scrubbed:
        """Return an event's body without the person; where it was about nobody else, without its detail."""
        recipients = body.get("recipients") or {}
        people = [each for names in recipients.values() if isinstance(names, list) for each in names]
        removed = any(self.is_name(each) for each in people)
        scrubbed = self.value(dict(body))
        named = scrubbed != body
        alone = named and all(self.is_name(each) for each in people)
        if alone:
            scrubbed["detail"] = {}
        return Scrubbed(scrubbed, removed or named, alone)

    def _member(self, name: str, member: Any) -> Any:
        if name in _IDS:
            return member
        if name in NAME_LISTS and isinstance(member, list):
            return self._others(member) or ([ERASED] if member else [])
        if name == "visitors" and isinstance(member, list):
            # Without any it would be for all of the domain.
            others = [each for each in member if not any(map(self.is_name, self._guids([each])))]
            return [self.value(each) for each in others] or ([{"visitor_guid": ERASED}] if member else [])
        if name == "device_fields" and isinstance(member, dict):
            return {token: self.value(fields) for token, fields in member.items() if not self.is_name(token)}
        if _PEOPLE.search(name):
            if self.is_name(member):
                return ERASED
            if isinstance(member, list):
                return [ERASED if self.is_name(each) else self.value(each) for each in member]
        return self.value(member)

    def _others(self, names: list[Any]) -> list[Any]:
        return [each for each in names if not self.is_name(each)]

    @staticmethod
    def _guids(visitors: Any) -> Iterator[Any]:
        return (each.get("visitor_guid") for each in visitors if isinstance(each, dict))


def _bare(content: Any) -> dict[str, Any]:
    """Return content without its texts. Its actions keep their names: reports count clicks by them."""
    actions = content.get("actions") if isinstance(content, dict) else None
    return {"actions": [{"action": each["action"], "title": ERASED} for each in actions]} if actions else {}
