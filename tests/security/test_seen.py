"""What has to be in the audit log is not done while that cannot be written."""

import sqlite3
from contextlib import closing, contextmanager

import pytest

from tests.security.conftest import plugin
from tests.security.people import within

DEEDS = '''
"""Something that has to be seen."""
from swarmkernel import Level, Permission, Route, hookimpl

MAY = Permission("do_deeds", "Do deeds", group="Deeds", default=Level.USER)
DONE = []


async def deed(call):
    """Do it."""
    DONE.append(1)
    return {"done": len(DONE)}


async def deed_ws(call):
    """Do it over a socket."""
    DONE.append(1)
    yield {"done": len(DONE)}


async def done(call):
    """How often it was done."""
    return {"done": len(DONE)}


@hookimpl
def swarm_routes():
    return [
        Route("Deed", deed, permission=MAY, audit=()),
        Route("DeedWS", deed_ws, permission=MAY, audit=()),
        Route("Done", done, permission=MAY),
    ]
'''


@pytest.fixture(name="server", scope="module")
def _server(start, tmp_path_factory):
    return start(**plugin(tmp_path_factory, "deeds", DEEDS))


@contextmanager
def unwritable(server):
    """Let nobody write to the server's database meanwhile."""
    with closing(sqlite3.connect(server.data_dir / "swarmkernel.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_no_deed_without_a_log(server):
    """While the log cannot be written, audited calls are refused and nothing is done; others go on, and later all do."""
    client = server.client()
    assert {"done": 1} == client.post("Deed")
    with unwritable(server):
        assert "storage_failed" == client.post("Deed")["error_id"]
        assert "storage_failed" == client.stream("DeedWS")[-1]["error_id"]
        assert {"done": 1} == client.post("Done")
    assert {"done": 2} == client.post("Deed")
    assert [{"done": 3}] == client.stream("DeedWS")
    within(5, lambda: client.post("Done") == {"done": 3})
