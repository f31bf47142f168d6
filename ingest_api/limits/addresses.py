"""How often one address may call without a key, in all processes of a host together.

Belongs here: finding the address that a call comes from, and holding it to its rate. Does not belong here: the
arithmetic (``core.call_rates``), which calls these are (``anonymous``), keys' own rates (``keeping``).

What is kept of an address lies in a file that the host's processes map into their memory: no stranger makes the ledger
write. The file never grows. Where it has no place left, the address forgotten is the one that could call soonest; it
gains a full burst by that, so whoever comes from many addresses is held back less, and never anybody else more.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from struct import Struct

from flask import Request

from ingest_api.errors import ApiError
from notify_pipeline.core.call_rates import NANOS, CallRate, draw
from notify_pipeline.core.ids import to_micros

# The name of the installation's secret that places are chosen by: nobody can aim at another's.
SECRET = "addresses"  # noqa: S105 - its name
# Places for 65,536 addresses in 1 MiB. Each has eight that it may take, so that few are forgotten before all are taken.
SETS, WAYS = 8_192, 8
# Of each place: whose it is (0: nobody's), and the first slot that the address has not used, see ``call_rates``.
_SET = Struct(f"={2 * WAYS}Q")
_PLACE = Struct("=2Q")
# Providers give a customer a /64, or more: what is beyond it the customer chooses (RFC 6177).
_NETWORK_BYTES = 8
_PEER, _FORWARDED = "REMOTE_ADDR", "HTTP_X_FORWARDED_FOR"


class AddressKeeper:
    """Lets each address call as fast as the rate allows. Used from any thread, by any number of processes."""

    def __init__(
        self, path: Path, secret: bytes, rate: CallRate, trusted_proxies: int, clock: Callable[[], datetime]
    ) -> None:
        """Open the file, and make it where it is missing.

        Args:
            path: The file, the same for all processes of the host.
            secret: What places are chosen by, the same for all as well.
            rate: Of each address.
            trusted_proxies: How many are in front, each of which adds the address that it was called from.
            clock: Aware UTC.

        Raises:
            OSError: It cannot be made; the disk is full.
        """
        self._secret = secret
        self._rate = rate
        self._trusted_proxies = trusted_proxies
        self._clock = clock
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._fd, SETS * _SET.size)
            # A page of a mapped file that a full disk has no room for ends the process (SIGBUS): take all of it now.
            os.posix_fallocate(self._fd, 0, SETS * _SET.size)
            self._places = mmap.mmap(self._fd, SETS * _SET.size)
        except OSError:
            os.close(self._fd)
            raise

    def check(self, request: Request) -> None:
        """Use one call of the address that a request comes from.

        Raises:
            ApiError: 429 when it calls too fast.
        """
        wait = self.take(network_of(request, self._trusted_proxies))
        if wait:
            message = "Too many calls from this address."
            wait_s = -(-wait // NANOS)
            raise ApiError(429, "rate_limited", message, headers={"Retry-After": str(wait_s)})

    def take(self, network: bytes) -> int:
        """Use one call; return 0, or for how many nanoseconds to wait."""
        digest = blake2b(network, digest_size=16, key=self._secret).digest()
        start = int.from_bytes(digest[:8], "little") % SETS * _SET.size
        owner = int.from_bytes(digest[8:], "little") or 1
        now = to_micros(self._clock()) * 1_000
        # The file's lock is between processes; threads of one would all hold it together.
        with self._guard:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                found = _SET.unpack_from(self._places, start)
                owners, slots = found[::2], found[1::2]
                way = owners.index(owner) if owner in owners else slots.index(min(slots))
                before = slots[way] if owners[way] == owner else 0
                after, block = draw(before, self._rate, now, 1)
                _PLACE.pack_into(self._places, start + way * _PLACE.size, owner, after)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        return 0 if block.slots else max(1, block.first - now)

    def close(self) -> None:
        """Let go of the file; the others go on with it."""
        with self._guard:
            self._places.close()
            os.close(self._fd)


def network_of(request: Request, trusted_proxies: int) -> bytes:
    """Return what stands for the address that a request comes from: all of an IPv4 address, the /64 of an IPv6 one.

    Each proxy adds the address that it was called from at the end of ``X-Forwarded-For``; what stands before those of
    our own proxies is whatever the caller wrote. A call with fewer did not come through all of them: then it is the
    peer that counts, as it is where the address cannot be read.
    """
    if trusted_proxies:
        hops = str(request.environ.get(_FORWARDED, "")).split(",")
        if len(hops) >= trusted_proxies and (network := _network(hops[-trusted_proxies])):
            return network
    return _network(str(request.environ.get(_PEER) or ""))


def _network(text: str) -> bytes:
    """Return what stands for an address, which may have a port; nothing for what is none."""
    text = text.strip()
    for candidate in (text, text.rpartition(":")[0]):
        try:
            address = ip_address(candidate.removeprefix("[").removesuffix("]"))
        except ValueError:
            continue
        return _of(address)
    return b""


def _of(address: IPv4Address | IPv6Address) -> bytes:
    if isinstance(address, IPv4Address):
        return address.packed
    return address.ipv4_mapped.packed if address.ipv4_mapped else address.packed[:_NETWORK_BYTES]
