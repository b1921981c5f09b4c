"""Which addresses a backend may have."""

import pytest

from swarmkernel_backend_api import BackendError, Status
from swarmkernel_backend_api.testing import fleet, until
from swarmkernel_backends_remote import RemoteSettings, SwarmSettings
from swarmkernel_backends_remote.addresses import Rules, Target
from swarmkernel_backends_remote.connection import headers_of
from swarmkernel_backends_remote.swarm_backend import swarm_type


@pytest.mark.parametrize(
    ("text", "netloc", "url"),
    [
        ("http://host", "host", "http://host/API/x"),
        (" HTTP://Host:7801/ ", "host:7801", "http://host:7801/API/x"),
        ("https://host/swarm/", "host", "https://host/swarm/API/x"),
        ("https://host:80", "host:80", "https://host:80/API/x"),
        ("http://[fd00::1]:7801", "[fd00::1]:7801", "http://[fd00::1]:7801/API/x"),
    ],
)
def test_addresses(text, netloc, url):
    """An address may have a port and a path; a slash at its end does not matter."""
    target = Target.of(text)
    assert (netloc, url) == (target.netloc, target.url("/API/x"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("host:7801", "must be like"),
        ("ftp://host", "must be like"),
        ("http://", "must be like"),
        ("file:///etc/passwd", "must be like"),
        ("http://user:pass@host", "user name or password"),
        ("http://host/?a=b", "query"),
        ("http://host:99999", "no URL"),
        ("http://host:0", "must be like"),
        ("http://[::1", "no URL"),
        ("http://hößt", "xn--"),
    ],
)
def test_no_addresses(text, told):
    """What is no address of a server is refused, with what would be right."""
    with pytest.raises(BackendError, match=told):
        Target.of(text)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "fe80::1",
        "fe80::1%2",
        "fd00:ec2::254",
        "ff02::1",
        "::",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "64:ff9b:1::a9fe:a9fe",
        "::a9fe:a9fe",
        "::ffff:0:a9fe:a9fe",
        "2001:0:1:2::3",
        "fd12::5efe:a9fe:a9fe",
        "fd12::200:5efe:a9fe:a9fe",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "192.0.0.192",
    ],
)
@pytest.mark.parametrize("allowed", [[], ["0.0.0.0/0", "::/0", "host"]])
def test_never(address, allowed):
    """Link-local addresses and metadata services are never connected to, in whatever form and whatever is listed."""
    with pytest.raises(BackendError, match="no backend may have"):
        Rules(RemoteSettings(allowed_hosts=allowed)).check("host", address)


@pytest.mark.parametrize("address", ["127.0.0.1", "192.168.1.7", "::1", "fd00::1", "8.8.8.8"])
def test_any(address):
    """Nothing listed allows private addresses and public ones to whoever runs the server."""
    Rules().check("host", address)


@pytest.mark.parametrize(
    ("address", "fits"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.7", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::1", False),
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
    ],
)
def test_private_addresses_with_accounts(address, fits):
    """Where others than the operator may add backends, private addresses must be listed, and the text says where and how."""
    rules = Rules(has_accounts=lambda: True)
    if fits:
        rules.check("host", address)
    else:
        with pytest.raises(BackendError, match=r'set allowed_hosts = \["host"\] under \[backends_remote\]'):
            rules.check("host", address)


@pytest.mark.parametrize(
    ("rule", "host", "address", "fits"),
    [
        ("host", "host", "10.0.0.1", True),
        ("Host.", "HOST", "10.0.0.1", True),
        ("host", "ghost", "10.0.0.1", False),
        ("*.example", "a.example", "10.0.0.1", True),
        ("*.example", "example", "10.0.0.1", False),
        ("*.example", "badexample", "10.0.0.1", False),
        ("10.0.0.0/8", "any", "10.0.0.1", True),
        ("10.0.0.0/8", "any", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "any", "11.0.0.1", False),
        ("10.0.0.1", "any", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", "11.0.0.1", False),
        ("::1", "any", "::1", True),
    ],
)
@pytest.mark.parametrize("accounts", [False, True])
def test_rules(rule, host, address, fits, accounts):
    """Names allow themselves, networks what is in them, whether or not there are accounts; nothing else."""
    rules = Rules(RemoteSettings(allowed_hosts=["nothing.else", rule]), lambda: accounts)
    if fits:
        rules.check(host, address)
    else:
        with pytest.raises(BackendError, match="not among the allowed_hosts"):
            rules.check(host, address)


@pytest.mark.parametrize("rule", ["", "a b", "http://host", "*", "10.0.0.0/99", "host:80"])
def test_no_rules(rule):
    """What is no rule is refused when the settings are read."""
    with pytest.raises(ValueError, match="no host name"):
        RemoteSettings(allowed_hosts=[rule])


async def test_odd_spellings_of_addresses():
    """A number in any base is the address that it stands for."""
    rules = Rules(RemoteSettings(allowed_hosts=["10.0.0.0/8"]))
    for host in ("0x7f000001", "2130706433", "127.1"):
        with pytest.raises(BackendError):
            await rules.addresses_of(Target.of(f"http://{host}"))


async def test_a_backend_that_is_not_allowed():
    """A backend whose address is not allowed is errored with that as its reason, and nothing is sent to it."""
    async with fleet(
        [swarm_type(Rules(RemoteSettings(allowed_hosts=["far.example"])))], max_init_attempts=0
    ) as backends:
        slot = await backends.add("swarmswarmbackend", {"Address": "http://127.0.0.1:9"})
        await until(backends, lambda: slot.status is Status.ERRORED)
        assert "not among the allowed_hosts" in slot.reason


async def test_no_address():
    """Without an address a backend is disabled."""
    async with fleet([swarm_type(Rules())]) as backends:
        slot = await backends.add("swarmswarmbackend")
        await until(backends, lambda: slot.status is Status.DISABLED)
        assert "Address is empty" in slot.reason


@pytest.mark.parametrize("lines", ["no colon", "Bad Name: x", ": x", "X: ä", "X: a\x00"])
def test_headers_that_cannot_be_sent(lines):
    """A line of OtherHeaders that is none is refused by its number, and not repeated."""
    with pytest.raises(BackendError, match="Line 1 of OtherHeaders"):
        headers_of(SwarmSettings(other_headers=lines))


def test_headers():
    """Lines become headers, and the secret the Authorization."""
    settings = SwarmSettings(authorization_header=" Bearer x ", other_headers="\nA: 1\r\n B : 2:3 \n")
    assert {"A": "1", "B": "2:3", "Authorization": "Bearer x"} == headers_of(settings)
    assert "Bearer" not in repr(settings)
