"""A PostgreSQL server of the tests' own."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
import pytest

from swarmkernel import Store
from swarmkernel_store_sql import Settings
from swarmkernel_store_sql import open_store as open_sql_store

PASSWORD = "p4ss w@rd/%"
PASSWORD_IN_URL = "p4ss%20w%40rd%2F%25"


def _programs() -> Path | None:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@attrs.define
class PostgresqlServer:
    """A server that listens on a socket in its folder."""

    programs: Path
    folder: Path
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))

    def run(self, program: str, *args: str, output: int = subprocess.PIPE) -> str:
        """Run one of PostgreSQL's programs, as a user that it accepts, and give what it prints."""
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        environ = {**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"}
        command = [str(self.programs / program), *args]
        done = subprocess.run(
            command,
            check=False,
            cwd=self.folder,
            env=environ,
            stdout=output,
            stderr=output,
            text=True,
            **user,
        )
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout

    def make(self) -> None:
        """Create the data and start."""
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(self.folder / "password", "postgres")
        self.run(
            "initdb", "-D", "data", "-U", "swarm", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8"
        )
        self.start()

    def start(self) -> None:
        """Start the server on a socket in its folder."""
        self.control(
            "start", "-o", f"-c listen_addresses='' -k {self.folder} -c deadlock_timeout=100ms -c fsync=off"
        )

    def control(self, *args: str) -> None:
        """Start, stop or restart, and wait until it is done."""
        # Not into pipes: the server would keep them open.
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-s", *args, output=subprocess.DEVNULL)

    def sql(self, database: str, command: str) -> str:
        """What the command prints, run by PostgreSQL's own client."""
        return self.run(
            "psql", "-h", str(self.folder), "-U", "swarm", "-d", database, "-XqAtc", command
        ).strip()

    def new_database(self, options: str = "") -> str:
        """The name of an empty database."""
        name = f"test_{next(self._numbers)}"
        self.sql("postgres", f"CREATE DATABASE {name} {options}")
        return name

    def url(self, database: str) -> str:
        """How a user of the store writes it."""
        return f"postgresql://swarm:{PASSWORD_IN_URL}@/{database}?host={self.folder}"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running server."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="swarm-pg-", dir="/tmp"))  # a socket's path must be short
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", pwd.getpwnam("postgres").pw_gid)
    server = PostgresqlServer(programs, folder)
    try:
        server.make()
        yield server
        server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


OpenStore = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture
def open_sqlite(tmp_path: Path) -> OpenStore:
    """Opens the store of a data directory of the test's own."""
    return lambda: open_sql_store(Settings(), tmp_path)


@pytest.fixture
def database(postgresql: PostgresqlServer) -> str:
    """The name of an empty database."""
    postgresql.sql("postgres", "DROP TABLE IF EXISTS swarm_rows, swarm_meta")
    return "postgres"


@pytest.fixture
def open_postgresql(postgresql: PostgresqlServer, database: str, tmp_path: Path) -> OpenStore:
    """Opens the store in the empty database."""
    return lambda: open_sql_store(Settings(postgresql.url(database)), tmp_path)
