"""Fetching a file: from servers that do well, and from servers that lie, stall and lead astray."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import aclosing

import attrs
import httpx
import pytest

from swarmkernel_models_api.addresses import check_url, is_public
from swarmkernel_models_api.errors import FetchError
from swarmkernel_models_api.fetch import Bounds, Source, fetch

from .conftest import write
from .hosts import page, serving

EASY = Bounds(stall_seconds=5, spare_bytes=0, spare_fraction=0)


@pytest.fixture(name="make_host")
def _make_host():
    """Run servers until the test ends."""
    with contextlib.ExitStack() as running:
        yield lambda certificate=None: running.enter_context(serving(certificate))


@pytest.fixture(name="host")
def _host(make_host):
    return make_host()


@pytest.fixture(name="content")
def _content(tmp_path):
    """The bytes of a real safetensors file of 3 MB."""
    return write(tmp_path / "made" / "real.safetensors", {"weight": (1500, 1000)}).read_bytes()


@pytest.fixture(name="target")
def _target(tmp_path):
    return tmp_path / "models" / "deep" / "new.safetensors"


def to(location):
    """A page that leads to another address."""
    return page(b"", status=302, Location=location)


def own(url, **known):
    """A source that the operator named."""
    return Source(url, is_own=True, **known)


async def fetched(source, target, bounds=EASY):
    """Fetch to the end, and give the progress."""
    return [progress async for progress in fetch(source, target, bounds)]


async def refusal(source, target, bounds=EASY):
    """The text of the error; nothing is left of the file."""
    with pytest.raises(FetchError) as caught:
        await fetched(source, target, bounds)
    assert [] == left(target)
    return str(caught.value)


def left(target):
    """What is in the folder of the target."""
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.exists() else []


async def test_fetch(host, content, target):
    """A file arrives whole, checked against its hash and size, and the last progress counts all its bytes."""
    source = own(host.add("/a", page(content)), sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    progress = await fetched(source, target)

    assert content == target.read_bytes()
    assert ["new.safetensors"] == left(target)
    assert (len(content), len(content)) == (progress[-1].done, progress[-1].total)
    assert progress[-1].per_second > 0
    assert "identity" == host.heads[0]["Accept-Encoding"]


async def test_progress_along_the_way(host, content, target):
    """A slow fetch tells its progress about twice a second, with the speed of late."""

    def send(request):
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        for start in range(0, len(content), 600_000):
            request.wfile.write(content[start : start + 600_000])
            time.sleep(0.3)

    progress = await fetched(own(host.add("/slow", send)), target)

    assert 3 <= len(progress) <= 5
    assert sorted(p.done for p in progress) == [p.done for p in progress]
    assert 0 < progress[0].done < len(content)
    assert all(500_000 < p.per_second < 8_000_000 for p in progress[:-1])


async def test_without_a_length(host, content, target):
    """A file whose length is not told arrives as well; its total is unknown."""
    progress = await fetched(own(host.add("/a", page(content, length=""))), target)

    assert content == target.read_bytes()
    assert 0 == progress[-1].total


async def test_redirects(host, content, target):
    """Up to three redirects are followed, relative ones too."""
    host.add("/three", to("/two?x=1"))
    host.add("/two?x=1", to(host.url("/one")))
    host.add("/one", to("zero"))
    host.add("/zero", page(content))
    await fetched(own(host.url("/three")), target)

    assert content == target.read_bytes()
    host.add("/four", to("/three"))
    target.unlink()
    assert "more than 3 redirects" in await refusal(own(host.url("/four")), target)


async def test_the_name_is_looked_up_once(host, content, target, monkeypatch):
    """The connection goes to the address that was checked, and the server is asked by its name."""
    lookups = []
    real = socket.getaddrinfo

    def answers(name, port, *args, **kwargs):
        if name != "models.example":
            return real(name, port, *args, **kwargs)
        lookups.append(name)
        return real("127.0.0.1" if len(lookups) == 1 else "127.0.0.2", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    host.add("/a", page(content))
    await fetched(own(f"http://models.example:{host.port}/a"), target)

    assert ["models.example"] == lookups
    assert f"models.example:{host.port}" == host.heads[0]["Host"]


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:{canary}/x",
        "http://[::ffff:7f00:1]:{canary}/x",
        "https://127.0.0.1:{canary}/x",
        "http://localhost:{canary}/x",
        "http://2130706433:{canary}/x",
        "http://0x7f.1:{canary}/x",
        "http://0:{canary}/x",
        "https://huggingface.co.evil.example/x",
        "https://evil.example/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{canary}/x",
        "//127.0.0.1:{canary}/x",
        "http://user:secret@127.0.0.1:{port}/ok",
        "http://[::1/x",
        "http://a b/",
        "",
    ],
)
async def test_redirects_that_lead_astray(make_host, host, content, target, location):
    """A redirect to anywhere but the operator's own origin is refused before a connection is made."""
    canary = make_host()
    host.add("/ok", page(content))
    host.add("/a", to(location.format(canary=canary.port, port=host.port)))
    text = await refusal(own(host.url("/a")), target)

    assert [] == canary.asked
    assert "/ok" not in host.asked
    assert "secret" not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/a",
        "https://127.0.0.1:{port}/a",
        "https://localhost:{port}/a",
        "http://huggingface.co/a",
        "https://huggingface.co:8443/a",
        "https://user@huggingface.co/a",
        "https://127.0.0.1/a",
        "https://localhost/a",
        "https://[::1]/a",
        "ftp://huggingface.co/a",
        "https:///a",
        "nonsense",
        "https://[::1/a",
    ],
)
async def test_sources_that_are_not_the_operators(host, content, target, url):
    """Without the operator's word a source is https, on its usual port, and on the public internet."""
    host.add("/a", page(content))
    await refusal(Source(url.format(port=host.port)), target)

    assert [] == host.asked


HUB = "https://huggingface.co/a"
BOX = "http://box.lan:8080/a"


@pytest.mark.parametrize(
    ("expected", "url", "source", "is_own"),
    [
        (False, HUB, HUB, False),
        (False, "https://cdn-lfs.huggingface.co/x", HUB, False),
        (False, "https://cas-bridge.xethub.hf.co/x", HUB, False),
        (False, "https://huggingface.co:443/x", HUB, False),
        (True, HUB, HUB, True),
        (False, "https://cdn-lfs.hf.co/x", HUB, True),
        (True, BOX, BOX, True),
        (True, "http://box.lan:8080/elsewhere", BOX, True),
    ],
)
def test_where_a_fetch_may_lead(expected, url, source, is_own):
    """Only the operator's own origin may be private."""
    assert expected == check_url(httpx.URL(url), httpx.URL(source), is_own=is_own)


@pytest.mark.parametrize(
    ("expected", "url", "source", "is_own"),
    [
        ("not https", "http://huggingface.co/x", HUB, False),
        ("not https", "http://huggingface.co/x", HUB, True),
        ("not https", "https://huggingface.co:8443/x", HUB, False),
        ("not https", "https://huggingface.co:22/x", HUB, True),
        ("not https", "http://box.lan:8081/x", BOX, True),
        ("not https", "https://box.lan:8080/x", BOX, True),
        ("not https", BOX, BOX, False),
        ("not https", "file://huggingface.co/etc/passwd", HUB, False),
        ("another host", "https://evil.example/x", HUB, False),
        ("another host", "https://nothuggingface.co/x", HUB, False),
        ("another host", "https://huggingface.co.evil.example/x", HUB, True),
        ("another host", "https://cdn-lfs.hf.co/x", BOX, True),
        ("another host", "https://192.168.1.1/x", HUB, True),
        ("plain one", "https://user@huggingface.co/x", HUB, False),
        ("plain one", "http://u:p@box.lan:8080/a", BOX, True),
        ("plain one", "https:///x", HUB, False),
        ("plain one", "file:///etc/passwd", HUB, False),
    ],
)
def test_where_a_fetch_may_not_lead(expected, url, source, is_own):
    """All but the operator's own origin is https on its usual port, at the source's own name or its CDN's."""
    with pytest.raises(FetchError, match=expected) as caught:
        check_url(httpx.URL(url), httpx.URL(source), is_own=is_own)

    assert "u:p" not in str(caught.value)


async def test_a_public_name_with_a_private_address(host, content, target, monkeypatch):
    """One private address among those of a name is enough to refuse it; the operator's own name may have it."""
    real = socket.getaddrinfo

    def answers(name, port, *args, **kwargs):
        if name != "huggingface.co":
            return real(name, port, *args, **kwargs)
        return [*real("93.184.216.34", port, *args, **kwargs), *real("127.0.0.1", port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    text = await refusal(Source("https://huggingface.co/a"), target)

    assert "not on the public internet" in text


@pytest.mark.parametrize(
    ("expected", "address"),
    [
        (True, "93.184.216.34"),
        (True, "2606:2800:220:1::1"),
        (False, "127.0.0.1"),
        (False, "10.1.2.3"),
        (False, "172.16.0.1"),
        (False, "192.168.1.1"),
        (False, "169.254.169.254"),
        (False, "100.64.0.1"),
        (False, "0.0.0.0"),
        (False, "224.0.0.1"),
        (False, "240.0.0.1"),
        (False, "255.255.255.255"),
        (False, "198.18.0.1"),
        (False, "::1"),
        (False, "::"),
        (False, "::ffff:127.0.0.1"),
        (False, "::ffff:93.184.216.34"),
        (False, "::127.0.0.1"),
        (False, "fe80::1%2"),
        (False, "fc00::1"),
        (False, "fec0::1"),
        (False, "ff02::1"),
        (False, "64:ff9b::7f00:1"),
        (False, "64:ff9b:1::1"),
        (False, "2002:7f00:1::"),
        (False, "2001:0:7f00:1::"),
        (False, "2001:db8::1"),
    ],
)
def test_public_addresses(expected, address):
    """Private, local, shared, multicast and translated addresses are not public."""
    assert expected == is_public(address)


@pytest.mark.parametrize("length", [1_000, 4_000_000, "1e15", 10**15, -5, "9" * 25])
async def test_lengths_that_lie(host, content, target, length):
    """Neither fewer nor more bytes than announced make a file, nor a length that is none."""
    await refusal(own(host.add("/a", page(content, length=length))), target)


@pytest.mark.parametrize(
    ("expected", "known", "length"),
    [
        ("should have 10", {"size": 10}, None),
        ("More came", {"size": 10}, ""),
        ("should have 3000089", {"size": 3_000_089}, ""),
        ("SHA-256", {"sha256": "0" * 64}, None),
        ("SHA-256", {"sha256": "0" * 64}, ""),
    ],
)
async def test_another_file(host, content, target, expected, known, length):
    """A file of another size or hash than is known is refused."""
    url = host.add("/a", page(content, length=length))

    assert expected in await refusal(own(url, **known), target)


async def test_more_than_is_taken(host, content, target):
    """A file over the limit is refused by its announced length, or else as soon as the limit is passed."""
    bounds = attrs.evolve(EASY, max_bytes=2_000_000)
    assert "too large" in await refusal(own(host.add("/a", page(content))), target, bounds)

    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(content)

    assert "More came" in await refusal(own(host.add("/b", endless)), target, bounds)


async def test_no_room(host, content, target):
    """Where the disk would not keep its spare bytes, nothing is written."""
    free = shutil.disk_usage("/").free
    for bounds in (
        attrs.evolve(EASY, spare_bytes=free * 2),
        attrs.evolve(EASY, spare_fraction=1.0),
    ):
        for name, length in (("/a", None), ("/b", "")):
            url = host.add(name, page(content, length=length))
            assert "free space" in await refusal(own(url), target, bounds)


async def test_more_than_the_disk_takes(host, content, target):
    """An announced length that the disk does not take is refused before a byte is read."""
    bounds = attrs.evolve(EASY, max_bytes=10**18)
    url = host.add("/a", page(content, length=10**17))

    assert "free space" in await refusal(own(url), target, bounds)


async def test_a_disk_that_fills_up(host, content, target, tmp_path):
    """The spare bytes are kept while the file arrives, whoever else writes to the disk."""
    spare = shutil.disk_usage(tmp_path).free - 1024**3

    def send(request):
        request.send_response(200)
        request.end_headers()
        request.wfile.write(content[:1_100_000])
        with (tmp_path / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, 2 * 1024**3)
        request.wfile.write(content[1_100_000:])

    text = await refusal(own(host.add("/a", send)), target, attrs.evolve(EASY, spare_bytes=spare))
    (tmp_path / "other").unlink()

    assert "free space" in text


@pytest.mark.parametrize("silent", ["headers", "first byte", "middle", "drip"])
async def test_a_server_that_stalls(host, content, target, silent):
    """A server that falls silent, or drips, is given up."""
    ended = threading.Event()

    def send(request):
        if silent == "headers":
            ended.wait(20)
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if silent in {"middle", "drip"}:
            request.wfile.write(content[:1_500_000])
        for byte in content[1_500_000:] if silent == "drip" else ():
            request.wfile.write(bytes([byte]))
            if ended.wait(0.05):
                return
        ended.wait(20)

    begun = time.monotonic()
    url = host.add("/a", send)
    try:
        await refusal(own(url), target, attrs.evolve(EASY, stall_seconds=0.6))
    finally:
        ended.set()
    assert 0.5 < time.monotonic() - begun < 5


async def test_the_deadline(host, content, target):
    """A fetch that never stalls still ends at the deadline."""

    def send(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(1_100_000))
            time.sleep(0.1)

    begun = time.monotonic()
    assert "slowly" in await refusal(own(host.add("/a", send)), target, attrs.evolve(EASY, seconds=1.0))
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("status", [204, 206, 304, 401, 404, 500])
async def test_statuses(host, content, target, status):
    """Only 200 is an answer with the file in it."""
    body = b"" if status in {204, 304} else content
    assert f"answered {status}" in await refusal(own(host.add("/a", page(body, status=status))), target)


async def test_compressed(host, content, target):
    """What comes compressed without being asked for is refused, so that no few bytes become many."""
    text = await refusal(own(host.add("/a", page(content, Content_Encoding="gzip"))), target)

    assert "compressed" in text


async def test_malformed(host, target):
    """An answer that is no HTTP fails in words, not with a traceback."""

    def send(request):
        request.wfile.write(b"\x00\xff nonsense\r\n\r\n")

    assert "malformed" in await refusal(own(host.add("/a", send)), target)


async def test_nobody_there(target):
    """Where nothing listens, or no such host exists, the error says so."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert "No connection" in await refusal(own(f"http://127.0.0.1:{port}/a"), target)
    assert "not found" in await refusal(own("http://no-such-host.invalid/a"), target)


@pytest.mark.parametrize("kind", ["page", "pickle", "cut"])
async def test_no_model(host, content, target, kind):
    """Only a whole safetensors file takes its place, whatever its name and length say."""
    bodies = {"page": b"<html>" * 1000, "pickle": b"\x80\x04" + bytes(5000), "cut": content[:-1]}
    text = await refusal(own(host.add("/a.safetensors", page(bodies[kind]))), target)

    assert "no safetensors file" in text


@pytest.mark.parametrize("how", ["cancelled", "closed"])
async def test_giving_up(host, content, target, how):
    """A fetch that is cancelled, or whose listener leaves, leaves nothing behind and lets go of the server."""
    gone = threading.Event()

    def send(request):
        request.send_response(200)
        request.send_header("Content-Length", str(10 * len(content)))
        request.end_headers()
        try:
            for _ in range(100):
                request.wfile.write(content[:1_100_000])
                time.sleep(0.1)
        except OSError:
            gone.set()

    begun = asyncio.Event()

    async def listen():
        async with aclosing(fetch(own(host.add("/a", send)), target, EASY)) as progresses:
            async for _ in progresses:
                begun.set()
                if how == "closed":
                    return

    task = asyncio.create_task(listen())
    await asyncio.wait_for(begun.wait(), 10)
    assert how == "closed" or [".new.safetensors."] == [name[:17] for name in left(target)]
    if how == "cancelled":
        task.cancel()
    await asyncio.wait({task})

    assert (how == "cancelled") == task.cancelled()
    assert [] == left(target)
    assert await asyncio.to_thread(gone.wait, 5)


async def test_leftovers(host, content, target):
    """What a killed server left of the same file goes away with the next fetch; what another fetch writes now stays."""
    target.parent.mkdir(parents=True)
    old, new, other = (
        target.with_name(name)
        for name in (".new.safetensors.1.part", ".new.safetensors.2.part", ".other.part")
    )
    for path in (old, new, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (time.time() - 7200,) * 2)
    await fetched(own(host.add("/a", page(content))), target)

    assert [".new.safetensors.2.part", ".other.part", "new.safetensors"] == left(target)


@pytest.fixture(name="certificate", scope="module")
def _certificate(tmp_path_factory):
    """A certificate for models.example, and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    names = ("-subj", "/CN=models.example", "-addext", "subjectAltName=DNS:models.example")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run([*command, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@pytest.mark.parametrize("name", ["models.example", "other.example"])
async def test_certificates(make_host, content, target, certificate, monkeypatch, name):
    """The certificate must be for the name in the URL, although the connection goes to a number."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **kwargs: real(
            "127.0.0.1" if host.endswith(".example") else host, *args, **kwargs
        ),
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    host = make_host(certificate)
    host.add("/a", page(content))
    source = own(f"https://{name}:{host.port}/a")
    if name == "models.example":
        await fetched(source, target)
        assert content == target.read_bytes()
    else:
        await refusal(source, target)
        assert [] == host.asked
