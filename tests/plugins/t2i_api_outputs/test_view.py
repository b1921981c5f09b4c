"""Outputs over HTTP, from a real server on a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import threading
import time
import types
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
from hypercorn.asyncio import serve
from hypercorn.config import Config
from PIL import Image
from starlette.applications import Starlette

from swarmkernel import (
    Accounts,
    Identity,
    Level,
    MemoryStore,
    Permission,
    Permissions,
    Plugins,
    ServerSettings,
    Services,
    Session,
    Sessions,
    UserData,
    hookimpl,
)
from swarmkernel.plugins import Plugin
from swarmkernel_t2i_api.outputs.files import Outputs
from swarmkernel_t2i_api.outputs.view import view_routes

OTHERS = Permission("view_others_outputs", "View Others Outputs", group="Admin", default=Level.ADMIN)
CANARY = b"canary: nobody may read this"
NAME = "local/raw/2026/a cat [1].png"


@attrs.frozen
class Answer:
    """An HTTP response as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """The status and the error id."""
        answer = json.loads(self.body)
        assert {"error", "error_id"} == set(answer)
        assert answer["error"]
        return self.status, answer["error_id"]


@attrs.frozen
class Server:
    """Where a server listens."""

    port: int

    async def send(self, target: str | bytes, method: str = "GET", **headers: str) -> Answer:
        """Send `target` as it is, without the tidying that HTTP clients do."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        target = target.encode("latin-1") if isinstance(target, str) else target
        lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}".encode() for name, value in headers.items()]
        writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
        data = await reader.read()
        writer.close()
        head, _, body = data.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        return Answer(
            int(first.split()[1]), {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}, body
        )

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send `path` with its spaces encoded, as any client would."""
        return await self.send(path.replace(" ", "%20").replace("[", "%5B"), method, **headers)


@asynccontextmanager
async def serving(services: Services, **options: int) -> AsyncIterator[Server]:
    """A server of nothing but the views."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    stop = asyncio.Event()
    app = Starlette(routes=view_routes(services, OTHERS, **options))
    task = asyncio.create_task(serve(app, config, shutdown_trigger=stop.wait))
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            break
    try:
        yield Server(port)
    finally:
        stop.set()
        await task


@pytest.fixture
def services(outputs: Outputs) -> Services:
    """The services of a server, which has no accounts unless some are added."""
    services, plugins = Services(), Plugins()
    plugins.add(Plugin("voting", "test", voting()))
    services.add(Outputs, outputs)
    services.add(ServerSettings, ServerSettings())
    services.add(Permissions, Permissions(plugins, services))
    services.add(Sessions, Sessions.of(MemoryStore(), 10))
    return services


def voting() -> types.ModuleType:
    """A plugin that lets the owner and the admin see others' outputs."""

    @hookimpl
    def swarm_vote(session: Session, permission: Permission) -> bool:
        return session.user_id in {"local", "admin"} and permission is OTHERS

    module = types.ModuleType("voting")
    module.swarm_vote = swarm_vote
    return module


@pytest.fixture
async def server(services: Services) -> AsyncIterator[Server]:
    """A running server without accounts."""
    async with serving(services) as running:
        yield running


@pytest.fixture
def put(outputs: Outputs) -> Callable[[str, bytes], Path]:
    """Puts a file below the root."""

    def write(name: str, data: bytes) -> Path:
        path = outputs.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return write


async def test_a_saved_url_can_be_fetched(server, outputs, picture, facts):
    """What `save` returns is fetched with a slash before it: the same bytes, as a picture, never sniffed."""
    url = await outputs.save(picture, rules_of("raw/[prompt] [seed]"), facts())
    answer = await server.get(f"/{url}")

    assert (200, picture.data) == (answer.status, answer.body)
    expected = {
        "content-type": "image/png",
        "cache-control": "private, max-age=30",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "accept-ranges": "bytes",
        "content-length": str(len(picture.data)),
    }
    assert expected == {key: answer.headers.get(key) for key in expected}
    assert "content-disposition" not in answer.headers


def rules_of(template: str):
    """The default rules with another template."""
    from swarmkernel_t2i_api.outputs.paths import PathRules

    return PathRules(template)


async def test_output_is_the_short_form(server, put):
    """`/Output/<path>` gives the user's own files."""
    put(NAME, b"data")

    assert (await server.get("/Output/raw/2026/a cat [1].png")).body == b"data"


async def test_without_user_folders(server, outputs, put):
    """With user folders off, both forms are relative to the root, and the user's place in the URL is part of the path."""
    outputs.append_user = False
    put("raw/x.png", b"data")

    assert (await server.get("/Output/raw/x.png")).body == b"data"
    assert (await server.get("/View/raw/x.png")).body == b"data"
    assert (await server.get("/View/local/raw/x.png")).error == (404, "file_not_found")


async def test_head(server, put):
    """HEAD gives the headers alone; other methods are refused."""
    put(NAME, b"data")
    answer = await server.get(f"/View/{NAME}", "HEAD")

    assert (200, "4", b"") == (answer.status, answer.headers["content-length"], answer.body)
    assert [405, 405] == [(await server.get(f"/View/{NAME}", method)).status for method in ("POST", "DELETE")]


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=0-0", 206, b"0"),
        ("bytes=50-", 416, None),
        ("nonsense", 400, None),
        ("bytes=" + ",".join(["0-1"] * 500), 200, b"0123456789"),
    ],
)
async def test_ranges(wanted, status, body, server, put):
    """Parts of a file can be asked for, and odd requests are answered quickly."""
    put("local/x.mp4", b"0123456789")
    answer = await server.send("/View/local/x.mp4", Range=wanted)

    assert status == answer.status
    assert body is None or body == answer.body


async def test_unchanged_files_are_not_sent_again(server, put):
    """A client that has the file already gets 304 and no body."""
    put("local/x.png", b"data")
    tag = (await server.send("/View/local/x.png")).headers["etag"]
    answer = await server.send("/View/local/x.png", If_None_Match=tag)

    assert (304, b"", tag) == (answer.status, answer.body, answer.headers["etag"])


@pytest.mark.parametrize(
    ("name", "media_type", "inline"),
    [
        ("x.PNG", "image/png", True),
        ("x.webm", "video/webm", True),
        ("x.mp3", "audio/mpeg", True),
        ("x.swarm.json", "application/json", False),
        ("x.txt", "text/plain; charset=utf-8", False),
        ("x.html", "application/octet-stream", False),
        ("x.svg", "application/octet-stream", False),
        ("x.xhtml", "application/octet-stream", False),
        ("x.js", "application/octet-stream", False),
        ("x.pdf", "application/octet-stream", False),
        ("x.png.html", "application/octet-stream", False),
        ("x", "application/octet-stream", False),
        ('x";a=b.html', "application/octet-stream", False),
    ],
)
async def test_only_media_are_shown(name, media_type, inline, server, put):
    """Media are shown; all else is a download of a passive type that is cached for two seconds at most."""
    put(f"local/{name}", b"<script>alert(1)</script>")
    answer = await server.send("/View/local/" + name.replace('"', "%22").replace(";", "%3B"))

    assert (200, media_type) == (answer.status, answer.headers["content-type"])
    assert inline == ("content-disposition" not in answer.headers)
    assert inline or answer.headers["content-disposition"].startswith("attachment; filename")
    assert f"private, max-age={30 if inline else 2}" == answer.headers["cache-control"]
    assert ("nosniff", "sandbox") == (
        answer.headers["x-content-type-options"],
        answer.headers["content-security-policy"],
    )


async def test_the_operator_chooses_the_cache_time(services, put):
    """Media may be kept as long as the operator says."""
    put(NAME, b"data")
    async with serving(services, cache_seconds=600) as server:
        assert (await server.get(f"/View/{NAME}")).headers["cache-control"] == "private, max-age=600"


async def test_missing_and_unreadable(server, put, monkeypatch):
    """A missing file, a folder and a pipe are 404; a broken disk is 500, and its text names no path."""
    put(NAME, b"data")
    os.mkfifo(put("local/x.txt", b"").parent / "pipe.png")
    for path in ("raw/none.png", "raw", "raw/2026", "pipe.png", "x.txt/y.png", "a" * 255):
        assert (await server.get(f"/View/local/{path}")).error == (404, "file_not_found")

    def broken(*args, **kwargs):
        raise OSError(5, "Input/output error", "/secret/path")

    monkeypatch.setattr(io, "FileIO", broken)
    answer = await server.get(f"/View/{NAME}")
    assert answer.error == (500, "file_error")
    assert b"secret" not in answer.body


async def test_a_saved_thumbnail_is_served(server, outputs, picture, facts):
    """`?preview=true` gives the thumbnail that came with the picture."""
    url = await outputs.save(picture, rules_of("x"), facts())
    answer = await server.get(f"/{url}?preview=true")

    assert (200, "image/jpeg", picture.thumbnail) == (
        answer.status,
        answer.headers["content-type"],
        answer.body,
    )
    assert (await server.get(f"/{url}?preview=false")).body == picture.data


async def test_missing_thumbnails_are_made_once(server, put, outputs, monkeypatch):
    """A picture without a thumbnail gets one on demand, which is kept; the second request decodes nothing."""
    stream = io.BytesIO()
    Image.new("RGB", (900, 600), "red").save(stream, "PNG")
    put("local/x.png", stream.getvalue())
    first = await server.get("/View/local/x.png?preview=true")
    kept = (outputs.root / "local/x.swarmpreview.jpg").read_bytes()
    monkeypatch.setattr(Image, "open", None)
    second = await server.get("/View/local/x.png?preview=true")

    assert Image.MIME["JPEG"] == first.headers["content-type"]
    assert first.body == kept == second.body
    monkeypatch.undo()
    assert Image.open(io.BytesIO(kept)).size == (384, 256)


async def test_a_thumbnail_is_given_even_if_it_cannot_be_kept(server, put, outputs):
    """On a full disk a thumbnail is made for each request and not kept."""
    stream = io.BytesIO()
    Image.new("RGB", (900, 600)).save(stream, "PNG")
    put("local/x.png", stream.getvalue())
    outputs.min_free = 1 << 60
    real = os.fstatvfs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            os,
            "fstatvfs",
            lambda place: os.statvfs_result([*list(real(place))[:3], 0, 0, *list(real(place))[5:]]),
        )
        answer = await server.get("/View/local/x.png?preview=true")

    assert (200, "image/jpeg") == (answer.status, answer.headers["content-type"])
    assert not (outputs.root / "local/x.swarmpreview.jpg").exists()


async def test_what_has_no_thumbnail_comes_whole(server, put):
    """Videos, documents and broken pictures have no thumbnail, so the file itself comes; a missing one is missing."""
    for name in ("local/x.mp4", "local/x.txt", "local/broken.png"):
        put(name, b"not a picture")
        assert (await server.get(f"/View/{name}?preview=true")).body == b"not a picture"

    assert (await server.get("/View/local/none.png?preview=true")).error == (404, "file_not_found")
    assert (await server.get("/View/local/none.mp4?preview=true")).error == (404, "file_not_found")


async def test_animated_thumbnails(server, put):
    """An animated thumbnail is preferred unless `noanim=true`."""
    put("local/x.mp4", b"video")
    put("local/x.swarmpreview.jpg", b"still")
    put("local/x.swarmpreview.webp", b"moving")

    assert (await server.get("/View/local/x.mp4?preview=true")).body == b"moving"
    assert (await server.get("/View/local/x.mp4?preview=true&noanim=true")).body == b"still"


async def test_a_user_may_do_without_previews(services, server, put):
    """With the user's setting off, `?preview=true` gives the whole picture."""

    class Choices:
        async def settings(self, user_id: str) -> dict[str, object]:
            return {"imagehistoryusepreviews": user_id != "local"}

    services.add(UserData, Choices())
    put("local/x.png", b"whole")
    put("local/x.swarmpreview.jpg", b"small")

    assert (await server.get("/View/local/x.png?preview=true")).body == b"whole"


async def test_without_accounts_all_folders_are_open(server, put):
    """Without accounts everybody is the owner, and sees every user's folder."""
    put("bob/x.png", b"bob's")

    assert (await server.get("/View/bob/x.png")).body == b"bob's"
    assert (await server.get("/View/Bob/x.png")).body == b"bob's"


class Cookies:
    """Accounts whose login cookie is the user's name."""

    async def identify(self, headers, peer):
        name, _, user = headers.get("cookie", "").partition("=")
        return Identity(user) if name == "swarm_token" else None


async def test_with_accounts(services, put):
    """With accounts, users see their own files, who may sees all, and who is nobody sees none."""
    services.add(Accounts, Cookies())
    put("bob/x.png", b"bob's")
    session = await services.get(Sessions).open("bob", "127.0.0.1")
    async with serving(services) as server:
        for path in ("/View/bob/x.png", "/Output/x.png"):
            assert (await server.get(path)).error == (400, "invalid_user")
            assert (await server.get(path, X_Session_ID="0" * 40)).error == (400, "invalid_user")
            assert (await server.get(path, Cookie="swarm_token=bob")).body == b"bob's"
            assert (await server.get(path, X_Session_ID=session.id)).body == b"bob's"
        assert (await server.get("/View/bob/x.png", Cookie="swarm_token=admin")).body == b"bob's"
        assert (await server.get("/View/bob/x.png", X_SWARM_USER_ID="bob")).error == (400, "invalid_user")


@pytest.mark.parametrize("query", ["", "?preview=true", "?preview=true&noanim=true"])
async def test_others_outputs_are_like_missing_ones(services, put, query):
    """Who may not see others' outputs gets one and the same answer, byte for byte, whatever is there or not."""
    services.add(Accounts, Cookies())
    stream = io.BytesIO()
    Image.new("RGB", (900, 600)).save(stream, "PNG")
    put("bobby/raw/x.png", stream.getvalue())
    put("bobby/raw/x.txt", CANARY)
    (put("bobby/y.png", b"").parent / "loop.png").symlink_to("loop.png")
    session = await services.get(Sessions).open("bob", "127.0.0.1")
    existing = ("bobby/raw/x.png", "Bobby/raw/x.png", "bobby/raw/x.txt", "bobby/raw", "bobby/loop.png")
    missing = ("bobby/raw/none.png", "bobby/none/x.png", "nobody/x.png", "NOBODY/raw")
    async with serving(services) as server:
        told = [
            await server.send(f"/View/{path}{query}", X_Session_ID=session.id, If_None_Match="x")
            for path in (*existing, *missing)
        ]
        again = [
            await server.send(f"/View/{path}{query}", X_Session_ID=session.id, Range="bytes=0-1")
            for path in (*existing, *missing)
        ]
        assert (await server.get("/View/bobby/raw/none.png", Cookie="swarm_token=admin")).error[0] == 404
    for answer in (*told, *again):
        answer.headers.pop("date")
    assert {(400, "unauthorized")} == {answer.error for answer in told}
    assert [told[0]] * len(told + again) == told + again


SEPARATORS = (
    "/",
    "%2f",
    "\\",
    "%5c",
    "%252f",
    "%255c",
    "／",
    "%ef%bc%8f",
    "%c0%af",
    "%e0%80%af",
    ";/",
    "%00/",
    "//",
)
DOTS = (
    "..",
    "%2e%2e",
    ".%2e",
    "%252e%252e",
    "．．",
    "%ef%bc%8e%ef%bc%8e",
    "‥",
    "%e2%80%a5",
    "%c0%ae%c0%ae",
    "....",
    "..%00",
    ".. ",
    "..%20",
    "..;",
)
SINGLE = (
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "//etc/passwd",
    "file:///etc/passwd",
    "C:\\canary.txt",
    "C:/canary.txt",
    "c:canary.txt",
    "\\\\localhost\\share\\canary.txt",
    "//localhost/share/canary.txt",
    "\\\\?\\C:\\canary.txt",
    "canary.txt::$DATA",
    "x.png::$DATA",
    "x.png:stream",
    "aux.png",
    "con",
    "NUL.txt",
    "com1.png",
    "lpt9",
    "con .png",
    "x.png.",
    "x.png ",
    "x.png%20",
    "x.png .",
    "x.png%2e",
    "x.png%00",
    "x.png%00.txt",
    "%00",
    "%0a",
    "%0d%0aX-Injected:%201",
    "x%7f.png",
    "x%c2%85.png",
    ".hidden",
    "%2ehidden",
    ".",
    "./x.png",
    "%2e/x.png",
    "raw//x.png",
    "raw/./x.png",
    "/",
    "raw/",
    "a" * 4096,
    "a/" * 2000 + "x",
    "%ff%fe",
    "%ed%a0%80",
    "%",
    "%2",
    "%zz",
    "x.png#/../../canary.txt",
    "link.txt",
    "linked/canary.txt",
    "loop/canary.txt",
    "loop",
    "up/canary.txt",
    "..bob/canary.txt",
    "~/canary.txt",
    "~root/.ssh/id_rsa",
    "$HOME/canary.txt",
    "{canary.txt,x}",
    "*",
    "?canary.txt",
    "proc/self/environ",
    "dev/fd/3",
)
CLIMBS = tuple(
    f"{dots}{separator}{target}"
    for dots in DOTS
    for separator in SEPARATORS
    for target in ("canary.txt", f"{dots}{separator}canary.txt", f"{dots}{separator}localby/canary.txt")
)
VECTORS = SINGLE + CLIMBS + tuple(f"raw/{climb}" for climb in CLIMBS[::3])


async def test_nothing_outside_is_ever_served(server, outputs, put):
    """Over 700 ways to leave the user's folder end in an error of ours: never 200, never 5xx, never a byte of it."""
    put("local/raw/x.png", b"mine")
    for place in (outputs.root, outputs.root.parent, outputs.root.parent / "Outputs"):
        place.mkdir(exist_ok=True)
        (place / "canary.txt").write_bytes(CANARY)
    put("localby/canary.txt", CANARY)
    (outputs.root / "local/link.txt").symlink_to(outputs.root.parent / "canary.txt")
    (outputs.root / "local/linked").symlink_to(outputs.root.parent)
    (outputs.root / "local/up").symlink_to("..")
    (outputs.root / "local/loop").symlink_to("loop")
    assert len(VECTORS) > 700

    for vector in VECTORS:
        for prefix in ("/View/local/", "/Output/", "/View/"):
            answer = await server.send((prefix + vector).encode().replace(b" ", b"%20"))
            assert CANARY not in answer.body, (prefix, vector)
            if answer.status == 307:  # the router completes `/View/x` to `/View/x/`, which is refused
                assert answer.headers["location"].startswith("http://localhost/View/")
            else:
                assert 400 <= answer.status < 500, (prefix, vector, answer)
            assert "x-injected" not in answer.headers


@pytest.mark.parametrize("race", ["folder", "file"])
async def test_swapping_links_meanwhile_gains_nothing(race, server, outputs, put):
    """While a thread keeps swapping a file or folder for a link to the outside, no request gets what lies there."""
    mine = put("local/a/x.txt", b"mine")
    outside = outputs.root.parent / "outside"
    outside.mkdir()
    (outside / "x.txt").write_bytes(CANARY)
    victim, link = (mine.parent, outside) if race == "folder" else (mine, outside / "x.txt")
    parked, evil = victim.with_name("parked"), victim.with_name("evil")
    evil.symlink_to(link)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            victim.rename(parked)
            evil.rename(victim)
            victim.rename(evil)
            parked.rename(victim)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        until = time.monotonic() + 2
        while time.monotonic() < until:
            answer = await server.send("/View/local/a/x.txt")
            seen.add(answer.status)
            assert CANARY not in answer.body
    finally:
        stop.set()
        thread.join()
    assert {200, 404} == seen


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_left_open(server, put):
    """Whole, partial, unchanged, refused and broken-off answers all close their file."""
    put("local/x.mp4", b"x" * 3_000_000)
    put("local/folder/x.png", b"x")
    await server.send("/View/local/x.mp4")
    before = open_files()
    for _ in range(10):
        tag = (await server.send("/View/local/x.mp4", "HEAD")).headers["etag"]
        await server.send("/View/local/x.mp4", Range="bytes=1-5")
        await server.send("/View/local/x.mp4", Range="bytes=99999999-")
        await server.send("/View/local/x.mp4", If_None_Match=tag)
        await server.send("/View/local/folder")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /View/local/x.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.read(10)
        writer.transport.abort()
    for _ in range(100):
        if open_files() <= before:
            break
        await asyncio.sleep(0.05)

    assert open_files() <= before
