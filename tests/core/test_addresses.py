"""Which numbers are the internet's, in all their spellings, and which URLs are refused before anybody looks them up."""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.addresses import is_public, url_fault

# https://www.iana.org/assignments/iana-ipv4-special-registry, without what is globally reachable, and multicast.
PRIVATE_4 = [
    IPv4Network(text)
    for text in (  # noqa: SIM905 - a list of quoted ones is three times as long
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.2.0/24 192.168.0.0/16 "
        "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32"
    ).split()
]
PRIVATE_6 = [
    IPv6Network(text)
    for text in [
        "::/128",
        "::1/128",
        "fe80::/10",
        "fc00::/7",
        "ff00::/8",
        "2001:db8::/32",
        "2001::/32",
        "100::/64",
        "fec0::/10",
    ]
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "172.15.0.1", "172.32.0.1", "2606:4700:4700::1111"]


def embedded(address: IPv4Address) -> list[IPv6Address]:
    low = int(address)
    prefixes = ("::ffff:0:0", "::", "64:ff9b::", "::ffff:0:0:0")
    found = [IPv6Address(int(IPv6Address(prefix)) | low) for prefix in prefixes]
    return [*found, IPv6Address(int(IPv6Address("2002::")) | low << 80)]


private_4 = st.sampled_from(PRIVATE_4).flatmap(lambda network: st.ip_addresses(v=4, network=network))
private_6 = st.sampled_from(PRIVATE_6).flatmap(lambda network: st.ip_addresses(v=6, network=network))


@pytest.mark.parametrize("address", PUBLIC)
def test_hosts_of_the_internet_are_public_by_both_numbers(address: str) -> None:
    assert is_public(address)
    assert url_fault(f"https://{f'[{address}]' if ':' in address else address}/", False) is None


@given(private_4)
def test_no_private_number_is_public_however_it_is_embedded(address: IPv4Address) -> None:
    assert not is_public(str(address))
    for other in embedded(address):
        assert not is_public(str(other)), other
        assert url_fault(f"https://[{other}]/", False) is not None


@given(private_6)
def test_no_private_number_of_ipv6_is_public(address: IPv6Address) -> None:
    assert not is_public(str(address))
    assert not is_public(f"{address}%1")


@given(st.ip_addresses(v=4))
def test_an_embedded_number_is_judged_like_the_number_itself(address: IPv4Address) -> None:
    assert {is_public(str(other)) for other in embedded(address)} == {is_public(str(address))}
    if is_public(str(address)):
        assert address.is_global and not any(address in network for network in PRIVATE_4)


@given(st.one_of(st.text(max_size=40), st.ip_addresses(v=6).map(str)))
def test_whatever_is_asked_has_an_answer(text: str) -> None:
    if is_public(text):
        assert ipaddress.ip_address(text).is_global
    for url in (text, f"https://{text}", f"https://{text}/x"):
        url_fault(url, False)
        url_fault(url, True)


def spellings(address: IPv4Address) -> list[str]:
    """How inet_aton lets one write it."""
    a, b, c, d = address.packed
    whole, last3, last2 = int(address), b << 16 | c << 8 | d, c << 8 | d
    forms = [f"{whole}", f"{whole:#x}", f"0{whole:o}", f"{a}.{last3}", f"{a:#x}.{b}.{last2:#x}"]
    return [*forms, f"0{a:o}.0{b:o}.{c:#x}.{d}", f"{a}.{b}.{c}.{d}."]


@given(private_4)
def test_no_spelling_of_a_private_number_passes(address: IPv4Address) -> None:
    for text in spellings(address):
        # Such a spelling really is the address, to whoever would look it up.
        assert socket.inet_aton(text.removesuffix(".")) == address.packed
        for url in (f"https://{text}/", f"https://{text}:8443/x?y", f"HTTPS://{text.upper()}"):
            assert url_fault(url, False) is not None, url


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "//example.com/",
        "example.com",
        "https:///x",
        "https://",
        "https://user:secret@example.com/",
        "https://@example.com/",
        "https://example.com@127.0.0.1/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1%25eth0]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://0/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://1.2.3.4.5/",
        "https://1.2.3.08/",
        "https://localhost/",
        "https://localhost./",
        "https://LOCALHOST:8443/",
        "https://api.localhost/",
        "https://example.com:25/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:x/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://example.com/#x",
        "https://①②⑦.⓪.⓪.①/",
        "https://exämple.com/",
        "https://-example.com/",
        "https://example..com/",
        "https://%31%32%37.0.0.1/",
        "https://example.com/" + "x" * 2_048,
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    assert url_fault(url, False)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com./hooks?token=x",
        "https://EXAMPLE.com:8443/",
        "https://xn--exmple-cua.com/",
        "https://a_b.example.com:443/",
        "https://1password.com/",
        "https://0xdata.example/",
    ],
)
def test_urls_that_are_allowed(url: str) -> None:
    assert url_fault(url, False) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:25/", "http://localhost:8080/x", "http://[::1]:9/", "http://intranet"]
)
def test_private_ones_are_allowed_where_the_setting_says_so(url: str) -> None:
    assert url_fault(url, False) is not None
    assert url_fault(url, True) is None


@pytest.mark.parametrize("url", ["http://u:p@127.0.0.1/", "file:///etc/passwd", "http://127.0.0.1:0/", "http://127.1/"])
def test_the_setting_allows_no_nonsense(url: str) -> None:
    assert url_fault(url, True) is not None
