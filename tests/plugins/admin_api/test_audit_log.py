"""What the audit log holds of administration, and how it is read."""

import sqlite3
import time

import attrs
import pytest

from swarmkernel import Audit, MemoryStore
from swarmkernel_admin_api.audit_log import CHUNK, CHUNKS, read_page
from swarmkernel_admin_api.routes import ROUTES

SECRET = "a very secret password"
#: Calls in an order in which they can be made, by route: what fails, then what succeeds.
DEEDS = {
    "AdminAddUser": (
        {"name": "x", "password": SECRET, "role": "user"},
        {"name": "Ada", "password": SECRET, "role": "user"},
    ),
    "AdminSetUserPassword": ({"name": "nobody", "password": SECRET}, {"name": "ada", "password": SECRET}),
    "AdminSetUserOAuthEmail": ({"name": "ada", "email": "x"}, {"name": "ada", "email": "ada@example.com"}),
    "AdminChangeUserSettings": (
        {"name": "ada", "settings": {"theme": SECRET}},
        {"name": "ada", "settings": {"x" * 300: SECRET, "theme": "modern_light", "roles": ["guest"]}},
    ),
    "AdminInterruptUser": ({"name": "nobody"}, {"name": "ada"}),
    "AdminDeleteUser": ({"name": "nobody"}, {"name": "ada"}),
    "AdminAddRole": ({"name": "x"}, {"name": "clerk"}),
    "AdminEditRole": (
        {"name": "nosuchrole", "permissions": "install"},
        {"name": "clerk", "permissions": "view_logs"},
    ),
    "AdminDeleteRole": ({"name": "guest"}, {"name": "clerk"}),
}
EDIT = {
    "description": "",
    "max_outpath_depth": 5,
    "max_t2i_simultaneous": 32,
    "allow_unsafe_outpaths": False,
    "model_whitelist": "",
    "model_blacklist": "",
}


def newest(client):
    """The number of the newest row."""
    return client.post("ListAuditLog", limit=1)["entries"][0]["number"]


@pytest.fixture(name="deeds", scope="module")
def _deeds(boss):
    """The rows that each deed left: route, what was sent, rows."""
    found = []
    for route, bodies in DEEDS.items():
        for body in bodies:
            before = newest(boss)
            answer = boss.post(route, **(EDIT | body if route == "AdminEditRole" else body))
            assert ("error" in answer) is (body is bodies[0]), answer
            entries = boss.post("ListAuditLog")["entries"]
            found.append((route, answer, [e for e in entries if e["number"] > before]))
    return found


def test_every_writing_route_is_audited():
    """Every route that changes something is audited, is in the table of deeds, and names no password."""
    writing = {route.name for route in ROUTES if route.touches_session}

    assert writing == {route.name for route in ROUTES if route.audit is not None} == DEEDS.keys()
    assert not any("password" in route.audit for route in ROUTES if route.audit)


def test_every_deed_is_one_row(deeds):
    """A deed leaves exactly one row, with who, what, on whom, and how it went."""
    for route, answer, rows in deeds:
        assert [route] == [row["action"] for row in rows]
        (row,) = rows
        wanted = answer.get("error_id", "error") if "error" in answer else "ok"
        assert ("boss", None, wanted) == (row["user"], row["impersonator"], row["result"])
        assert row["subject"]["name"]
        assert "127.0.0.1" == row["address"]
        assert abs(time.time() - row["time"]) < 600


def test_roles_given_are_in_the_row(deeds):
    """Roles that somebody got stand in the row, whatever else was changed with them."""
    (row,) = [rows[0] for route, _, rows in deeds if route == "AdminChangeUserSettings"][1:]

    assert '["guest"]' == row["subject"]["roles"]
    assert "theme" not in row["subject"]


def test_no_secret_is_kept(deeds, server):
    """No password that was sent is in a row, elsewhere in the store, or in the server's log."""
    rows = [row for _, _, found in deeds for row in found]

    with sqlite3.connect(f"file:{server.data_dir}/swarmkernel.db?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        kept = [row for table in tables for row in database.execute(f'SELECT * FROM "{table}"')]
    assert len(kept) > len(rows)
    assert any("AdminSetUserPassword" in str(row) for row in kept)
    assert not any(SECRET in str(row) for row in kept)
    assert not any(SECRET in line for line in server.log)


def test_the_one_who_really_acts(boss, manager, log_in, add):
    """What somebody did as another is found under both, and says who it was."""
    disguised = log_in("boss", impersonateUser="maude")
    disguised.post("AdminInterruptUser", name="boss")

    for user in ("boss", "maude"):
        (row, *_) = boss.post("ListAuditLog", user=user, action="AdminInterruptUser")["entries"]
        assert ("maude", "boss", "ok") == (row["user"], row["impersonator"], row["result"])


def test_reading(boss, deeds):
    """Rows come newest first, as many as wanted, before a number, of one user or one action."""
    first = boss.post("ListAuditLog", limit=3)
    numbers = [row["number"] for row in first["entries"]]
    second = boss.post("ListAuditLog", limit=3, before=first["next"])

    assert numbers == sorted(numbers, reverse=True)
    assert 3 == len(numbers)
    assert numbers[-1] - 1 == second["entries"][0]["number"]
    assert first["intact"] is second["intact"] is True
    keys = {"number", "time", "user", "impersonator", "address", "action", "subject", "result"}
    assert keys == first["entries"][0].keys()
    only = boss.post("ListAuditLog", action="AdminAddRole")["entries"]
    assert {"AdminAddRole"} == {row["action"] for row in only}
    assert [] == boss.post("ListAuditLog", user="nobody")["entries"]
    console = boss.post("ListAuditLog", user="console")["entries"]
    assert ["users add"] == [row["action"] for row in console]


@pytest.mark.parametrize("body", [{"limit": 0}, {"limit": 1001}, {"before": -1}, {"limit": "many"}])
def test_bad_limits(boss, body):
    """A limit out of range is refused with what would be right."""
    assert "error" in boss.post("ListAuditLog", **body)


def test_permission(log_in, add):
    """Reading takes `view_logs`, which administrators have and users have not."""
    assert "bad_permissions" == log_in(add("ute")).post("ListAuditLog")["error_id"]
    assert "entries" in log_in(add("anton", "admin")).post("ListAuditLog")


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


@pytest.fixture(name="audit")
def _audit(store):
    """A log of its own."""
    return Audit.of(store, keep=100_000)


async def fill(audit, count, user="bob"):
    """Write rows."""
    for number in range(count):
        await audit.record("Deed", user_id=user, subject={"n": number})


def every(_):
    """Want each row."""
    return True


async def test_pages_lead_to_the_end(audit):
    """Going on before `next` leads through all rows, and ends with 0."""
    await fill(audit, 7)
    found, before = [], 0
    for _ in range(4):
        page = await read_page(audit, before, 2, every)
        found += [row.number for row in page.found]
        before = page.next
        assert page.intact

    assert [7, 6, 5, 4, 3, 2, 1] == found
    assert 0 == before


async def test_empty(audit):
    """An empty log is an empty page."""
    page = await read_page(audit, 0, 100, every)

    assert ([], True, 0) == (page.found, page.intact, page.next)


async def test_work_is_bounded(audit):
    """A search that finds nothing looks at so many rows, and says where to go on."""
    scanned = CHUNK * CHUNKS
    await fill(audit, 1, "alice")
    await fill(audit, scanned + 10)

    page = await read_page(audit, 0, 5, lambda row: row.user_id == "alice")
    rest = await read_page(audit, page.next, 5, lambda row: row.user_id == "alice")

    assert ([], 12) == (page.found, page.next)
    assert [1] == [row.number for row in rest.found]
    assert 0 == rest.next


@pytest.mark.parametrize("number", [1, 2, 5, 9, 10])
@pytest.mark.parametrize("how", ["changed", "deleted"])
async def test_tampering_is_seen(store, audit, number, how):
    """A row that was changed is seen wherever it is looked at, and so is one that is missing between others."""
    await fill(audit, 10)
    rows = store.collection("audit", type((await audit.entries(limit=1))[0]))
    (key,) = [row.key for row in await rows.items() if row.value.number == number]
    if how == "deleted":
        await rows.delete(key)
    else:
        await rows.update(key, lambda row: attrs.evolve(row, user_id="mallory"))

    page = await read_page(audit, 0, 100, every)

    is_at_an_end = how == "deleted" and number in {1, 10}
    assert page.intact is is_at_an_end
    assert (await audit.verify() is None) is False


async def test_tampering_outside_is_not_looked_at(store, audit):
    """A page answers for its own rows."""
    await fill(audit, 2 * CHUNK)
    rows = store.collection("audit", type((await audit.entries(limit=1))[0]))
    (key,) = [row.key for row in await rows.items() if row.value.number == 3]
    await rows.update(key, lambda row: attrs.evolve(row, user_id="mallory"))

    assert (await read_page(audit, 0, 10, every)).intact
    assert not (await read_page(audit, 20, 10, every)).intact
