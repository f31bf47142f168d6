"""Addresses that a stranger may make us call, and addresses that they may not.

Belongs here: telling public from private, of numbers and of what a URL says. Does not belong here: looking names up,
connecting (``delivery``).

A URL is checked twice: what it says here, when it is registered, and the number that is connected to, at every
connection. Only the second protects; the first tells early.
"""

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

MAX_URL_LENGTH = 2_048
# Names as DNS carries them. Others have several spellings: whoever needs one gives its ASCII form.
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_\-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_\-]{0,61}[a-z0-9_])?)*\Z")
# What ends like a number is one to inet_aton, and so to every resolver: https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_WEB_PORTS = (80, 443)
# Below are the services of operating systems, from mail to directories.
_FIRST_FREE_PORT = 1_024

# Prefixes whose addresses stand for an IPv4 address, and where in the 128 bits it is, counted from the right.
# RFC 4291 §2.5.5 (compatible, mapped), RFC 2765 §2.1 (translated), RFC 6052 §2.1 (NAT64), RFC 3056 §2 (6to4)
_EMBEDDING = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
# All that is handed out of IPv6: https://www.iana.org/assignments/ipv6-unicast-address-assignments
_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_public(address: str) -> bool:
    """Tell whether a number is one of the internet's hosts. Any text is allowed; what is no address is not public."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _is_public_4(parsed) if isinstance(parsed, IPv4Address) else _is_public_6(parsed)


def url_fault(url: str, allow_private: bool) -> str | None:
    """Return what is wrong with a URL that messages shall be posted to, or None.

    Args:
        url: Anything.
        allow_private: Whether plain HTTP, private addresses and any port are allowed.
    """
    if len(url) > MAX_URL_LENGTH:
        return f"must not be longer than {MAX_URL_LENGTH} characters"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "must be of visible ASCII characters without backslashes; encode the rest"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    schemes = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in schemes:
        return f"must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if "@" in parts.netloc:
        return "must not hold a user name or password"
    if "#" in url:
        return "must not have a fragment"
    if port is not None and not allow_private and port not in _WEB_PORTS and port < _FIRST_FREE_PORT:
        return f"must have port 443, or one from {_FIRST_FREE_PORT} on"
    return "must name a port" if port == 0 else _host_fault(parts, allow_private)


def _host_fault(parts: SplitResult, allow_private: bool) -> str | None:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return None if allow_private or is_public(host) else _PRIVATE
    name = host.removesuffix(".")
    if not _NAME.match(name):
        return "must have a host name, or an address"
    if _NUMBER.match(name.rpartition(".")[2]):
        return _number_fault(host, allow_private)
    if not allow_private and (name == "localhost" or name.endswith(".localhost")):
        return _PRIVATE
    return None


_PRIVATE = "must not lead to a private address"


def _number_fault(host: str, allow_private: bool) -> str | None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return "must write an IPv4 address as four decimal numbers"
    return None if allow_private or is_public(host) else _PRIVATE


def _is_public_4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _is_public_6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    for prefix, shift in _EMBEDDING:
        if address in prefix:
            return _is_public_4(IPv4Address(int(address) >> shift & 0xFFFF_FFFF))
    # Teredo (2001::/32) is among what is not global.
    return address in _UNICAST and address.is_global
