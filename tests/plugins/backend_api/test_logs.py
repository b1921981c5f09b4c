"""What workers say, on its way into the server's log."""

import logging

import pytest

from swarmkernel_backend_api.logs import Forwarder, escaped


def test_control_characters_are_escaped() -> None:
    """A line cannot move the cursor, start a new line or colour the terminal; letters of any script stay."""
    assert "a\\x1b[31m\\nb\tz\u00fc\u5b57" == escaped("a\x1b[31m\nb\tz\u00fc\u5b57")


def test_lines_are_put_together(caplog: pytest.LogCaptureFixture) -> None:
    """Bytes become log lines when their line ends, however they were cut."""
    caplog.set_level(logging.INFO)
    forwarder = Forwarder(logging.getLogger("w"), "backend 1", 50)
    for data in (b"one li", b"ne\ntwo\n\nthr", b"ee\xff\n"):
        forwarder.feed(data)
    assert ["backend 1: one line", "backend 1: two", "backend 1: three\ufffd"] == caplog.messages


def test_an_endless_line_does_not_fill_the_memory(caplog: pytest.LogCaptureFixture) -> None:
    """A line without end is logged in part, and not kept."""
    caplog.set_level(logging.INFO)
    forwarder = Forwarder(logging.getLogger("w"), "b", 50)
    for _ in range(100):
        forwarder.feed(b"x" * 1000)
    assert len(forwarder._tail) <= 2000
    assert max(map(len, caplog.messages)) <= 2003


def test_a_flood_is_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Of a flood of lines a burst is logged and the rest counted."""
    caplog.set_level(logging.INFO)
    forwarder = Forwarder(logging.getLogger("w"), "b", 10)
    for n in range(1000):
        forwarder.log(logging.INFO, str(n))
    assert 40 <= len(caplog.messages) < 60
    forwarder._seen -= 1
    forwarder.log(logging.INFO, "after")
    assert "lines left out" in caplog.messages[-2]
    assert "b: after" == caplog.messages[-1]
