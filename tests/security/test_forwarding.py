"""Where a call comes from is what the connection says; headers count only from proxies that the settings trust."""

import ipaddress
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.security.raw import JSON, send

#: Proxies of the settings, beside the address that all connections here come from.
PROXIES = ["127.0.0.1", "10.0.0.1", "2001:db8::1"]
NAMES = (
    "X-Forwarded-For",
    "Forwarded",
    "X-Real-IP",
    "Via",
    "CF-Connecting-IP",
    "True-Client-IP",
    "X-Client-IP",
)
NAMES += (
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded",
    "X-Original-Forwarded-For",
)

ODD = ["", " ", "unknown", "_hidden", "127.0.0.1:80", "[::1]", "[::1]:80", "::ffff:9.9.9.9", "0", "127.1"]
ODD += ["for=1.2.3.4", 'for="[::1]"', "1.2.3.4, ", "<script>", "1.2.3.4;2.3.4.5", "0177.0.0.1", "x" * 200]
odd = st.sampled_from([*ODD, "fe80::1%eth0"])
#: What honest proxies add.
plain = st.one_of(
    st.sampled_from(["127.0.0.1", "::1", "10.0.0.1", "2001:db8::1", "2001:DB8:0::1", "10.0.0.2"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
hops = st.lists(plain | odd, min_size=1, max_size=5).map(", ".join)
chains = st.lists(st.tuples(st.sampled_from(NAMES), hops), max_size=4)
few = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server that trusts no proxy."""
    return start(probe=True)


@pytest.fixture(name="proxied", scope="module")
def _proxied(start):
    """A server behind proxies."""
    return start("--allow-open-network", probe=True, SWARMKERNEL_SERVER__TRUSTED_PROXIES=json.dumps(PROXIES))


def ask(server, headers, **kwargs):
    """What the server thinks of where a call comes from."""
    reply = send(server, "POST", "/API/who_calls", [*JSON, *headers], b"{}", host="127.0.0.1", **kwargs)
    assert 200 == reply.status, reply
    return json.loads(reply.body)


@few
@given(chains=chains)
def test_a_strangers_headers_say_nothing(server, chains):
    """Whatever headers a peer that is no trusted proxy sends, the call comes from that peer, over plain HTTP."""
    assert {"client": "127.0.0.1", "address": "127.0.0.1", "secure": False} == ask(server, chains)


@few
@given(chains=chains)
def test_a_neighbour_of_a_proxy_is_a_stranger(proxied, chains):
    """Trust is for exact addresses: one beside a trusted proxy's is not trusted."""
    found = ask(proxied, chains, via="127.0.0.2")
    assert {"client": "127.0.0.2", "address": "127.0.0.2", "secure": False} == found


def nearest(lines: list[str]) -> str:
    """The right-most hop that is no trusted proxy, as far as hops can be read and are told by one."""
    found = "127.0.0.1"
    for hop in reversed(", ".join(lines).split(",")):
        if found not in PROXIES:
            break
        try:
            address = ipaddress.ip_address(hop.strip())
        except ValueError:
            break
        found = str(getattr(address, "ipv4_mapped", None) or address)
    return found


@few
@given(lines=st.lists(st.lists(plain, min_size=1, max_size=5).map(", ".join), max_size=3))
def test_behind_proxies(proxied, lines):
    """Behind trusted proxies a call comes from the right-most hop that is none, over several header lines too."""
    assert nearest(lines) == ask(proxied, [("X-Forwarded-For", line) for line in lines])["client"]


@few
@given(chains=chains)
def test_odd_hops(proxied, chains):
    """However odd the hops, the client is an IP address, and only X-Forwarded-For names it."""
    found = ask(proxied, chains)["client"]
    said = [value for name, value in chains if name == "X-Forwarded-For"]

    assert str(ipaddress.ip_address(found)) == found
    assert nearest(said) == found


@few
@given(told=hops, spoofed=st.lists(plain | odd, max_size=6))
def test_what_stands_further_left_does_not_matter(proxied, told, spoofed):
    """What a client puts in front of what its proxy adds changes nothing about who it is."""
    honest = "198.51.100.7"
    line = ", ".join([*spoofed, told, honest, "10.0.0.1"])
    assert honest == ask(proxied, [("X-Forwarded-For", line)])["client"]


@pytest.mark.parametrize(
    ("said", "secure"),
    [("https", True), ("HTTPS", True), ("http", False), ("", False), ("evil", False), ("http, https", False)],
)
def test_the_scheme_that_a_proxy_tells(proxied, server, said, secure):
    """A trusted proxy says whether the client sees HTTPS; a stranger does not."""
    assert secure == ask(proxied, [("X-Forwarded-Proto", said)])["secure"]
    assert ask(server, [("X-Forwarded-Proto", said)])["secure"] is False


def test_the_text_is_one_harmless_line(proxied):
    """The text about where a call comes from keeps nothing that could deceive whoever reads it, and stays short."""
    said = [("X-Forwarded-For", "1.2.3.4\x9b31m<b>\x85\xa0(via 9.9.9.9)" + "x" * 5000)]
    address = ask(proxied, said)["address"]

    assert address.startswith("127.0.0.1 (via 1.2.3.4")
    assert address.isascii()
    assert address.isprintable()
    assert not set("<>()") & set(address.removeprefix("127.0.0.1 (via ").removesuffix(")"))
    assert len(address) < 300


def test_both_stacks(start):
    """An IPv4 client of a server on both stacks is known by its IPv4 address, and so is a trusted proxy."""
    server = start(
        "--host",
        "::",
        "--allow-open-network",
        probe=True,
        SWARMKERNEL_SERVER__TRUSTED_PROXIES='["127.0.0.9", "10.0.0.1"]',
    )
    said = [("X-Forwarded-For", "203.0.113.5, ::ffff:10.0.0.1")]

    assert "127.0.0.1" == ask(server, said)["client"]
    assert "203.0.113.5" == ask(server, said, via="127.0.0.9")["client"]
