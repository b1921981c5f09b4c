"""What is not one strict JSON object of bounded size is refused as such; what is, is read as every parser reads it."""

import json
import threading
import time

import pytest

from tests.security.raw import JSON, send

#: Of the well-known collection of documents that no parser may take, those that could be an object.
BROKEN = [
    *(
        '{"a":}',
        '{"a"}',
        '{"a" 1}',
        "{a:1}",
        "{'a':1}",
        '{"a":1,}',
        '{,"a":1}',
        '{"a":1 "b":2}',
        '{"a":1,,"b":2}',
    ),
    *(
        '{"a":1}}',
        '{"a":1}#',
        '{"a":1}//',
        '{"a":1}/**/',
        '{"a":/*b*/1}',
        '{"a":1} x',
        '{"a":1}{}',
        '{"a":1}]',
    ),
    *(
        '{"a":01}',
        '{"a":-01}',
        '{"a":1.}',
        '{"a":.5}',
        '{"a":-.5}',
        '{"a":+1}',
        '{"a":++1}',
        '{"a":1e}',
        '{"a":1e+}',
    ),
    *(
        '{"a":1eE2}',
        '{"a":0x1}',
        '{"a":1 000}',
        '{"a":1_000}',
        '{"a":-}',
        '{"a":--1}',
        '{"a":2.e3}',
        '{"a":0e}',
    ),
    *('{"a":NaN}', '{"a":-NaN}', '{"a":Infinity}', '{"a":-Infinity}', '{"a":nan}', '{"a":Inf}', '{"a":1/2}'),
    *(
        '{"a":True}',
        '{"a":TRUE}',
        '{"a":nul}',
        '{"a":tru}',
        '{"a":undefined}',
        '{"a":None}',
        '{"a":$}',
        '{"a":@}',
    ),
    *(
        '{"a":"\\x00"}',
        '{"a":"\\a"}',
        '{"a":"\\u00A"}',
        '{"a":"\\u"}',
        '{"a":"\\uD834\\uDd"}',
        '{"a":"\\"}',
        '{"a":"',
    ),
    *(
        '{"a":"\t"}',
        '{"a":"\n"}',
        '{"a":"\x00"}',
        '{"a":"\x1f"}',
        '{"a\x00":1}',
        '{"a":"b" \x00}',
        "{\x0c}",
        "{\xa0}",
    ),
    *(
        '{"a":[}',
        '{"a":[1,]}',
        '{"a":[,1]}',
        '{"a":[1 2]}',
        '{"a":[1}',
        '{"a":(1)}',
        '{"a":<x>}',
        '{"a":{"b"}}',
    ),
    *(
        "{",
        "}",
        "{{",
        "{}{}",
        "{};",
        "\ufeff{}x",
        "[]",
        "[{}]",
        '"{}"',
        "1",
        "null",
        "true",
        " ",
        "\n",
        "<a/>",
        "a=1",
    ),
]
BYTES = [
    *(
        b'{"a":"\xff"}',
        b'{"a":"\xe5"}',
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"\xff":1}',
        b"\xff\xfe{\x00}\x00",
    ),
    *(
        b"\x00{}",
        b"{}\x00",
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":"\\ud800x"}',
    ),
    *(b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xf8\x88\x80\x80\x80"}', b'{"a":\x80}', b"\xef\xbb", b"\xfe\xff"),
]
DEEP = [
    *(b'{"a":' * n + b"1" + b"}" * n for n in (65, 1000, 10_000)),
    *(b'{"a":' + b"[" * n + b"]" * n + b"}" for n in (65, 1000, 30_000)),
    *(b'{"a":' * 10_000, b'{"a":' + b"[" * 60_000, b'{"a":[' + b'{"b":' * 10_000),
]
FINE = [
    ("{}", None),
    (' \n\t\r{"username":"x"} \n', None),
    ('{"text":"a","text":"b"}', "b"),
    ('{"text":"\\ud834\\udd1e"}', "\U0001d11e"),
    ('{"text":"\\u0000"}', "\0"),
    ('{"text":"\u2028\u2029"}', "\u2028\u2029"),
    ('{"text":"2024-01-01T00:00:00"}', "2024-01-01T00:00:00"),
    ('{"text":123456789012345678901234567890}', None),
    ('{"text":1e300}', None),
    ('{"text":-0.0}', None),
    ('{"__proto__":{"text":"x"}}', None),
    ('{"":1,"text":"y"}', "y"),
]


@pytest.fixture(name="server", scope="module")
def _server(start):
    """A server with a route that says back what it was told."""
    return start(probe=True)


def post(server, body: bytes, route: str = "Echo"):
    """A call with exactly this body."""
    return send(server, "POST", f"/API/{route}", JSON, body)


def test_broken(server):
    """What is no JSON object is 400 basic_api, and the answer does not hold what was sent."""
    for body in (*(text.encode() for text in BROKEN), *BYTES):
        reply = post(server, body)
        assert (400, "basic_api") == (reply.status, reply.error_id), body
        assert b"Traceback" not in reply.body


def test_deep(server):
    """What is nested too deep is refused, however deep and however unfinished, without delay."""
    for body in DEEP:
        began = time.monotonic()
        reply = post(server, body)
        assert (400, "basic_api") == (reply.status, reply.error_id), body[:20]
        assert time.monotonic() - began < 1
    fine = b'{"text":"x","a":' + b"[" * 62 + b"]" * 62 + b"}"
    assert 200 == post(server, fine).status


@pytest.mark.parametrize(("body", "text"), FINE)
def test_fine(server, body, text):
    """Odd but correct JSON is read; of a repeated key the last value counts, and nothing is mangled."""
    reply = post(server, body.encode())
    assert 200 == reply.status
    if text is not None:
        assert {"text": text} == json.loads(reply.body)


def test_many_values(server):
    """More values than a request may hold are refused, with the limit in the text, and nobody waits meanwhile."""
    client = server.client()
    many = json.dumps({"session_id": client.session_id, "raw": [0] * 400_000}).encode()
    light, done = [], threading.Event()

    def watch():
        while not done.is_set():
            began = time.monotonic()
            assert 200 == post(server, b"{}", "GetNewSession").status
            light.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            reply = send(server, "POST", "/API/AddNewPreset", JSON, many)
            assert (400, "basic_api") == (reply.status, reply.error_id)
            assert b"200000" in reply.body
    finally:
        done.set()
        watcher.join()
    assert max(light) < 1


def test_strangers_have_less(server):
    """Without a session no more than 64 KiB are read, on public and on unknown routes."""
    for route in ("Login", "GetNewSession", "RegisterBasic", "Nope"):
        reply = post(server, b'{"a":"' + b"x" * 70_000 + b'"}', route)
        assert 413 == reply.status, route
        assert len(reply.body) < 500
