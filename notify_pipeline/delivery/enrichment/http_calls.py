"""The enricher ``http``: asks a service for JSON.

Belongs here: the question, and what an answer means. Does not belong here: which URLs can be written
(``core.url_templates``), connecting to public addresses only (``channels.public_http``), retry (``stage``).

Whoever may write a route chooses what is asked for. So the installation lists the hosts; what they answer is read up to
a limit; and no credentials are sent: a route is shown to whoever has the tenant's key.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import orjson

from notify_pipeline.channels.retry_after import parse_retry_after
from notify_pipeline.core import url_templates
from notify_pipeline.core.enrichers import DEFAULT_TIMEOUT_S, DEFAULT_TTL_S, EnricherSpec
from notify_pipeline.core.settings import Settings
from notify_pipeline.core.url_templates import BadTemplate, NotFilled, UrlTemplate
from notify_pipeline.delivery.enrichment.asking import MAX_ANSWER_BYTES, checked, scope, search
from notify_pipeline.delivery.enrichment.base import Findings, Need
from notify_pipeline.delivery.enrichment.failures import ForGood, MayPass
from notify_pipeline.delivery.enrichment.kept import Kept
from notify_pipeline.delivery.enrichment.turns import Turns

if TYPE_CHECKING:
    import aiohttp

    from notify_pipeline.channels.public_http import PublicSession

# Of one tenant at one host, in one process: what a small service takes.
_AT_ONCE = 8
# Besides 5xx: the service had no time or does not want to be asked now. RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4
_PASSING = frozenset({408, 425, 429})
# What was asked for before it was cut off says nothing of what comes next time; these do.
_FOR_GOOD = frozenset({"private_address"})


@dataclass(frozen=True, slots=True)
class _Question:
    tenant: str
    method: str
    url: str
    body: bytes | None
    host: str
    timeout_s: float


class HttpEnricher:
    """Asks services. Use it in an ``async with`` block, in one event loop.

    Config: ``url`` (a template), ``method`` (GET or POST), ``body`` (an expression; by default what expressions see),
    ``select`` (an expression over the answer), ``ttl_s``, ``timeout_s``.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._kept = Kept(monotonic)
        self._turns = Turns(_AT_ONCE)
        self._public: PublicSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._kept.aclose()
        await self._stack.aclose()

    async def enrich(self, spec: EnricherSpec, need: Need, users: Sequence[str], so_far: Mapping[str, Any]) -> Findings:
        """Ask, or return what was answered to the same question not long ago."""
        # In a thread, as what a config asks of an event may take tens of milliseconds for each place of a URL.
        question = await asyncio.to_thread(self._question, spec.config, need, scope(need, so_far))
        ttl_s = spec.config.get("ttl_s", DEFAULT_TTL_S if question.method == "GET" else 0.0)
        if ttl_s > 0:
            key = (question.tenant, question.method, question.url, question.body)
            raw = await self._kept.get(key, ttl_s, lambda: self._ask(question))
        else:
            raw = await self._ask(question)
        answer, select = orjson.loads(raw), spec.config.get("select")
        if select is None:
            return Findings(answer)
        return Findings(checked(await asyncio.to_thread(search, select, answer)))

    def _question(self, config: Mapping[str, Any], need: Need, seen: Mapping[str, Any]) -> _Question:
        template = self._template(config["url"])
        try:
            url = template.fill(seen)
        except NotFilled as error:
            raise ForGood(str(error)) from error
        method, body = config.get("method", "GET"), None
        if method == "POST":
            said = config.get("body")
            body = orjson.dumps(checked(seen if said is None else search(said, seen)), option=orjson.OPT_SORT_KEYS)
        timeout_s = config.get("timeout_s", DEFAULT_TIMEOUT_S)
        return _Question(need.tenant, method, url, body, template.host, timeout_s)

    def _template(self, text: str) -> UrlTemplate:
        # Settings may have changed since the route was stored.
        try:
            template = url_templates.read(text, self._settings.enrichment_allow_private)
        except BadTemplate as error:
            raise ForGood(f"url {error}") from error
        if not url_templates.is_listed(template, self._settings.enrichment_hosts):
            raise ForGood(f"{template.host} is no host that may be asked here")
        return template

    async def _ask(self, question: _Question) -> bytes:
        async with self._turns.of((question.tenant, question.host)):
            return await self._call(question)

    async def _call(self, question: _Question) -> bytes:
        # The library takes a while to load, and most drains ask nobody.
        import aiohttp
        from yarl import URL

        from notify_pipeline.channels.public_http import word_for

        session = self._session()
        headers = {} if question.body is None else {"Content-Type": "application/json"}
        try:
            async with session.request(
                question.method,
                URL(question.url, encoded=True),
                data=question.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=question.timeout_s),
            ) as answer:
                self._check(answer, question.host)
                return await _json(answer, question.host)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            word = word_for(error)
            raise (ForGood if word in _FOR_GOOD else MayPass)(f"{question.host}: {word}") from error

    def _session(self) -> "aiohttp.ClientSession":
        if self._public is None:
            import aiohttp

            from notify_pipeline.channels.public_http import PublicSession

            headers = {"Accept": "application/json", "User-Agent": "notify-pipeline-enrichment/1"}
            timeout = aiohttp.ClientTimeout(total=DEFAULT_TIMEOUT_S)
            self._public = PublicSession(self._settings.enrichment_allow_private, timeout, headers)
            self._stack.push_async_callback(self._public.aclose)
        return self._public.session

    def _check(self, answer: "aiohttp.ClientResponse", host: str) -> None:
        status = answer.status
        if status in _PASSING or status >= 500:
            wait_s = parse_retry_after(answer.headers.get("Retry-After"), self._clock())
            raise MayPass(f"{host} answered {status}", wait_s or 0.0)
        if status != 200:
            raise ForGood(f"{host} answered {status}{', a redirect, which is not followed' * (300 <= status < 400)}")
        if answer.content_type != "application/json" and not answer.content_type.endswith("+json"):
            raise ForGood(f"{host} did not answer with JSON")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ForGood(f"{host} answered with a content encoding that was not asked for")


async def _json(answer: "aiohttp.ClientResponse", host: str) -> bytes:
    """Read an answer that is JSON and small enough; more is not read."""
    raw = bytearray()
    async for data in answer.content.iter_any():
        raw += data
        if len(raw) > MAX_ANSWER_BYTES:
            raise ForGood(f"{host} answered with more than {MAX_ANSWER_BYTES} bytes")
    try:
        orjson.loads(raw)
    except ValueError as error:
        raise ForGood(f"{host} did not answer with JSON") from error
    return bytes(raw)
