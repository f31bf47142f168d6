"""What the routes work with, opened once per process and closed with it.

Belongs here: the handles of one ingress process and their life. Does not belong here: what routes do with them.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property, partial
from multiprocessing.util import Finalize

from sqlalchemy.exc import SQLAlchemyError

from ingest_api.domains.book import DomainBook
from ingest_api.email.certificates import SnsCalls
from ingest_api.keys import KeyRing
from ingest_api.limits import addresses
from ingest_api.limits.addresses import AddressKeeper
from ingest_api.limits.keeping import RateKeeper
from ingest_api.memory import Memory
from ingest_api.operations.overview import Overviews
from ingest_api.sms.proof import TwilioProof
from ingest_api.token_desk import TokenDesk
from ingest_api.turns import Turns
from ingest_api.users import tokens
from notify_pipeline.core import token_desk, vapid
from notify_pipeline.core.call_rates import CallRate
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import domains, key_rates, keys, tenants
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.group_commit import LedgerError
from notify_pipeline.core.ledger.limits import LimitsBook, default_rate
from notify_pipeline.core.receipt_log import ReceiptLog
from notify_pipeline.core.settings import Settings
from notify_pipeline.reports.reading import ReportReader

# How often open receipt logs are looked at; they are due after a few seconds.
_TICK_S = 1.0
# Ticks between two notes of when keys were used last: one write of a process, however many keys called.
_NOTE_USES_TICKS = 5
# What part of a process's threads may wait for the token desk at once.
_DESK_SHARE = 4
# What part of them may send files at once.
_DOWNLOADS_SHARE = 4

_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The real clock: aware UTC."""
    return datetime.now(UTC)


class Services:
    """One process's handles. Nothing is opened before ``open`` or the first use, so each forked child gets its own."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.clock = clock
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._opened = False

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger."""
        self.open()
        return self._ledger

    @cached_property
    def keys(self) -> KeyRing:
        """The keys."""
        self.open()
        return self._keys

    @cached_property
    def limits(self) -> LimitsBook:
        """What tenants may use."""
        rate = default_rate(self.settings.requests_per_s, self.settings.burst)
        return LimitsBook(self.ledger, rate)

    @cached_property
    def rates(self) -> RateKeeper:
        """How fast keys may call."""
        return RateKeeper(self.limits, partial(key_rates.draw, self.ledger), self.clock)

    @cached_property
    def domains(self) -> DomainBook:
        """The domains that browsers may name, and their origins."""
        return DomainBook(partial(domains.find, self.ledger), partial(domains.is_origin, self.ledger))

    @cached_property
    def application_server_key(self) -> str:
        """The key that browsers subscribe with."""
        return vapid.public_text(vapid.installation_key(self.settings, self.ledger))

    @cached_property
    def addresses(self) -> AddressKeeper:
        """How often addresses may call without a key."""
        given = self.settings
        rate = CallRate(given.anonymous_per_minute / 60, given.anonymous_burst)
        path, secret = given.home.resolve() / "ingress" / "addresses", self.ledger.secret(addresses.SECRET)
        return AddressKeeper(path, secret, rate, given.trusted_proxies, self.clock)

    @cached_property
    def sign_ins(self) -> AddressKeeper:
        """How often addresses may try to sign in to the dashboard."""
        given = self.settings
        rate = CallRate(given.sign_ins_per_minute / 60, given.sign_ins_per_minute)
        path, secret = given.home.resolve() / "ingress" / "sign-ins", self.ledger.secret(addresses.SECRET)
        return AddressKeeper(path, secret, rate, given.trusted_proxies, self.clock)

    @cached_property
    def open_sessions(self) -> Memory[str, bool]:
        """The dashboard's sessions that were not signed out of a moment ago."""
        return Memory()

    @cached_property
    def delivery_secret(self) -> bytes:
        """What delivery ids are proven with."""
        return self.ledger.secret("delivery")

    @cached_property
    def twilio(self) -> TwilioProof:
        """What Twilio's requests are checked with."""
        return TwilioProof(self.settings)

    @cached_property
    def sns(self) -> SnsCalls:
        """What Amazon SNS is asked."""
        return SnsCalls()

    @cached_property
    def token_desk(self) -> TokenDesk:
        """Whoever is asked about device tokens."""
        at_once = max(1, self.settings.http_threads // _DESK_SHARE)
        prove = partial(token_desk.bearer, self.ledger)
        return TokenDesk(self.settings.token_desk, prove, self.settings.token_desk_timeout_s, at_once)

    @cached_property
    def receipts(self) -> ReceiptLog:
        """The receipt log."""
        self.open()
        return self._receipts

    @cached_property
    def lake(self) -> Lake:
        """The lake, to look at: its rows are written by the lander and by broadcasts."""
        return Lake(self.settings.lake, self.settings.s3_endpoint_url)

    @cached_property
    def reports(self) -> ReportReader:
        """The published reports."""
        return ReportReader(self.settings.reports, self.settings.duckdb_memory, self.settings.duckdb_threads)

    @cached_property
    def downloads(self) -> Turns:
        """Turns for files that are long on their way, so that they leave threads to everybody else."""
        return Turns(max(1, self.settings.http_threads // _DOWNLOADS_SHARE))

    @cached_property
    def overviews(self) -> Overviews:
        """What operators look at."""
        stores = (lambda: self.ledger, lambda: self.lake, lambda: self.reports)
        return Overviews(*stores, self.settings.dagster_url)

    def open(self) -> None:
        """Open everything that this process will write; harmless when open already."""
        with self._guard:
            if self._opened:
                return
            ledger = self._ledger = Ledger.open(self.settings.ledger_dsn, self.clock)
            self._keys = KeyRing(
                lambda plaintext: tokens.find(ledger, plaintext, self.clock()) or keys.find(ledger, plaintext),
                lambda product, organization: tenants.is_active_organization(ledger, product, organization),
                self.clock,
                find_by_id=lambda key_id: keys.find_by_id(ledger, key_id),
            )
            logs = Lake(self.settings.logs, self.settings.s3_endpoint_url)
            self._receipts = ReceiptLog(self.settings.home.resolve() / "ingress" / "receipts", logs)
            self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
            self._ticker.start()
            # Also runs in forked workers, where atexit does not. What it would leave, the next process delivers.
            self._finalizer = Finalize(self, self.close, exitpriority=100)
            self._opened = True

    def close(self) -> None:
        """Deliver open logs and close the ledger; harmless when closed already."""
        with self._guard:
            if not self._opened or self._stop.is_set():
                return
            self._stop.set()
            self._ticker.join()
            try:
                self._note_uses()
                self._receipts.close()
            finally:
                self._finalizer.cancel()
                if "reports" in self.__dict__:
                    self.reports.close()
                if "addresses" in self.__dict__:
                    self.addresses.close()
                if "sign_ins" in self.__dict__:
                    self.sign_ins.close()
                if "token_desk" in self.__dict__:
                    self.token_desk.close()
                self._ledger.close()

    def _tick(self) -> None:
        ticks = 0
        while not self._stop.wait(_TICK_S):
            ticks += 1
            try:
                self._receipts.tick()
            except OSError:
                # The lines are safe where they are; a full disk or an absent store may be back at the next tick.
                _log.exception("finished receipt logs could not be delivered; they are kept and tried again")
            if ticks % _NOTE_USES_TICKS == 0:
                self._note_uses()

    def _note_uses(self) -> None:
        """Store when keys were used. What cannot be stored is lost: the next use is stored again."""
        uses = self._keys.take_uses()
        try:
            if uses:
                keys.note_uses(self._ledger, uses)
        except (LedgerError, SQLAlchemyError):
            _log.exception("when keys were used last could not be stored")
