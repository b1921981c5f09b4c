"""What PostgreSQL promises beyond the conformance suite: refusals, restarts, locks."""

import asyncio

import pytest

from swarmkernel import ConflictError, StartupError, StoreError
from swarmkernel_store_sql import Settings, open_store

PASSWORD_PARTS = ("p4ss", "w@rd", "w%40rd")


def refuse_writes(server, database: str, code: str, times: int) -> None:
    """Make the database refuse the next writes of a row, as it does when others are in the way."""
    server.sql(
        database,
        f"""
        DROP SEQUENCE IF EXISTS refused CASCADE;
        CREATE SEQUENCE refused;
        CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('refused') <= {times} THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END IF;
          RETURN NEW;
        END $$;
        CREATE OR REPLACE TRIGGER refuse BEFORE INSERT OR UPDATE ON swarm_rows FOR EACH ROW EXECUTE FUNCTION refuse();
        """,
    )


@pytest.mark.parametrize("code", ["40001", "40P01"])
async def test_refused_writes_are_tried_again(postgresql, database, open_postgresql, code):
    """A write that PostgreSQL refuses five times because of others is made at the sixth try."""
    async with open_postgresql() as store:
        refuse_writes(postgresql, database, code, 5)
        numbers = store.collection("numbers", int)
        await numbers.put("key", 1)
        assert await numbers.get("key") == 1


async def test_a_write_that_is_refused_for_good_is_a_conflict(postgresql, database, open_postgresql):
    """A write that PostgreSQL refuses a sixth time raises ConflictError, and a database's other errors at once."""
    async with open_postgresql() as store:
        numbers = store.collection("numbers", int)
        refuse_writes(postgresql, database, "40001", 6)
        with pytest.raises(ConflictError, match="in the way"):
            await numbers.put("key", 1)
        refuse_writes(postgresql, database, "23514", 1)
        with pytest.raises(StoreError, match="in the way"):
            await numbers.put("key", 1)
        assert await numbers.get("key") is None


async def test_a_full_disk_is_named(postgresql, database, open_postgresql):
    """When the server's disk is full, a write fails with a text that says so."""
    async with open_postgresql() as store:
        refuse_writes(postgresql, database, "53100", 1)
        with pytest.raises(StoreError, match=r"The disk of PostgreSQL database .* is full"):
            await store.collection("numbers", int).put("key", 1)


async def test_a_crashed_server_loses_nothing(postgresql, open_postgresql):
    """After the server ends without warning and starts again, acknowledged writes are there and new ones work."""
    async with open_postgresql() as store:
        numbers = store.collection("numbers", int)
        for n in range(20):
            await asyncio.gather(*(numbers.put(f"{n}-{m}", m) for m in range(5)))
        await asyncio.to_thread(postgresql.control, "restart", "-m", "immediate")
        assert len(await numbers.items()) == 100
        assert await numbers.update("0-0", lambda old: old + 1) == 1


async def test_a_transaction_that_is_cut_off_is_undone(postgresql, open_postgresql):
    """A transaction during which the server restarts raises StoreError, and nothing of it is kept."""
    async with open_postgresql() as store:
        numbers = store.collection("numbers", int)

        async def cut_off() -> None:
            async with store.transaction():
                await numbers.put("first", 1)
                await asyncio.to_thread(postgresql.control, "restart", "-m", "immediate")
                await numbers.put("second", 2)

        with pytest.raises(StoreError):
            await cut_off()
        assert await numbers.items() == []


async def test_a_stopped_server_is_an_error_not_a_wait(postgresql, open_postgresql):
    """While the server is down, calls raise StoreError with the database's name; they work once it is back."""
    async with open_postgresql() as store:
        numbers = store.collection("numbers", int)
        await numbers.put("key", 1)
        await asyncio.to_thread(postgresql.control, "stop", "-m", "immediate")
        try:
            with pytest.raises(StoreError, match="PostgreSQL database") as caught:
                await asyncio.wait_for(numbers.get("key"), 20)
            with pytest.raises(StoreError):
                await asyncio.wait_for(numbers.put("key", 2), 20)
        finally:
            await asyncio.to_thread(postgresql.start)
        assert await numbers.get("key") == 1
    assert not any(part in str(caught.value) for part in PASSWORD_PARTS)


async def test_a_newer_schema_is_refused(postgresql, database, open_postgresql):
    """A database of a newer version stops the start."""
    async with open_postgresql():
        postgresql.sql(database, "UPDATE swarm_meta SET value = '2'")
    with pytest.raises(StartupError, match=r"was written by a newer version \(schema 2, known here: 1\)"):
        async with open_postgresql():
            pass


async def test_a_wrong_password_is_not_shown(postgresql, tmp_path):
    """A wrong password stops the start with a text that does not repeat it."""
    url = f"postgresql://swarm:hunter2@/postgres?host={postgresql.folder}"
    with pytest.raises(StartupError, match="password authentication failed") as caught:
        async with open_store(Settings(url), tmp_path):
            pass
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", "has the encoding LATIN1"),
        (None, "does not exist"),
    ],
)
async def test_an_unfit_database_is_refused(postgresql, tmp_path, options, text):
    """A database that cannot hold every text, or that is not there, stops the start with the reason."""
    name = "missing" if options is None else postgresql.new_database(options)
    with pytest.raises(StartupError, match=text):
        async with open_store(Settings(postgresql.url(name)), tmp_path):
            pass


async def test_keys_sort_alike_in_any_locale(postgresql, tmp_path):
    """In a database whose language sorts otherwise, keys are in the order of code points all the same."""
    name = postgresql.new_database("LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C.UTF-8' TEMPLATE template0")
    assert "aBZ" == postgresql.sql(
        name, "SELECT string_agg(x, '' ORDER BY x) FROM (VALUES ('Z'), ('a'), ('B')) v(x)"
    )
    async with open_store(Settings(postgresql.url(name)), tmp_path) as store:
        numbers = store.collection("numbers", int)
        for key in ("a", "B", "Z", "é"):
            await numbers.put(key, 1)
        assert ["B", "Z", "a", "é"] == [record.key for record in await numbers.items()]
