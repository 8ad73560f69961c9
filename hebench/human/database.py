"""One database for all studies: a SQLite file, or PostgreSQL by its URL, always migrated.

SQLite is opened so that writers wait for each other: write-ahead log, a busy timeout, and BEGIN
IMMEDIATE for every transaction. A deferred transaction whose read snapshot turns into a write
cannot wait and fails at once; with 24 raters that lost 933 of 960 votes. And since SQLite's own
wait is a poll without order, in which one of 24 busy processes may starve for half a minute,
writers queue for their turn at a lock file beside the database, first come first served.

    >>> with open_database("study.sqlite") as database:
    ...     publish(database, study, material)
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from hebench.errors import ConfigError, DataError, one_line
from hebench.files import expanded

BUSY_SECONDS = 30  # a writer waits so long for the others
_SQLITE = b"SQLite format 3\0"  # how its files begin (sqlite.org/fileformat.html, 1.3.1)
_MIGRATING = 8_113_003  # key of PostgreSQL's advisory lock


class WriteQueue:
    """The queue of those who write to one SQLite file: threads of a process, and processes."""

    def __init__(self, path: Path) -> None:
        """Open the lock file; the system frees its lock when a process dies."""
        self._threads = threading.Lock()
        self._file = path.open("ab")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this thread's turn and hold it."""
        with self._threads:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock file."""
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class Database:
    """An open database. Share one in a process; threads and further processes may use it, too."""

    engine: Engine
    clock: Callable[[], float]
    queue: WriteQueue | None = None  # of SQLite; on PostgreSQL writers do not exclude each other

    @property
    def postgres(self) -> bool:
        """Return whether this is PostgreSQL (else SQLite)."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give a connection in a transaction: committed at the end, rolled back on any error."""
        turn = self.queue.turn() if self.queue else nullcontext()
        with turn, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one moment and holds up no writer; only for reading."""
        with self.engine.connect() as plain:
            if self.postgres:
                connection = plain.execution_options(isolation_level="REPEATABLE READ")
            else:
                connection = plain.execution_options(hebench_deferred=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        if self.queue:
            self.queue.close()

    def __enter__(self) -> "Database":
        """Return the database itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        self.close()


def open_database(
    url: str, *, clock: Callable[[], float] = time.time, new: bool = True
) -> Database:
    """Return a database with the newest schema.

    url: a path or `sqlite:///path`, or `postgresql://user@host/name`. clock: seconds since 1970.
    new: whether a file that is not there is made. Raises ConfigError for one that is not and
    should be, another kind of URL, a file that is no database, a server that does not answer or
    lets nothing be made, and PostgreSQL without its driver; DataError for a database that a newer
    hebench made.
    """
    engine = _engine(url)
    queue = None
    if engine.dialect.name == "sqlite":
        _require_sqlite(Path(str(engine.url.database)), new)
        path = Path(f"{engine.url.database}-queue")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            queue = WriteQueue(path)
        except OSError as error:
            raise ConfigError(
                f"cannot write to {path.parent}: {error.strerror}; put the database elsewhere"
            ) from error
    database = Database(engine=engine, clock=clock, queue=queue)
    try:
        _migrate(database)
    except DBAPIError as error:
        database.close()
        shown = engine.url.render_as_string(hide_password=True)
        raise ConfigError(
            f"cannot open {shown}: {one_line(error.orig)}; mend that, or name another database"
        ) from error
    except CommandError as error:
        database.close()
        raise DataError(
            f"{engine.url.database}: {one_line(error)}; a newer hebench made it: use that one"
        ) from error
    return database


def _engine(url: str) -> Engine:
    if "://" not in url:
        url = f"sqlite:///{url}"
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # the latter: a port that is no number
        # What was found is not shown: it may hold a password.
        raise ConfigError(
            "expected a database's path, or a URL such as postgresql://user@host:5432/name, found "
            "a URL of another form"
        ) from error
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        return _postgres_engine(parsed)
    if kind != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise ConfigError(f"expected a SQLite file or a postgresql:// URL, found {kind}")
    path = str(expanded(parsed.database))
    engine = create_engine(
        parsed.set(drivername="sqlite+pysqlite", database=path),
        poolclass=QueuePool,
        pool_size=10,
        connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _require_sqlite(path: Path, new: bool) -> None:
    """Raise ConfigError for a file of another kind, before anything is made beside it."""
    if not new and not path.exists():
        raise ConfigError(
            f"expected a study's database, found none at {path}; publish the study, or say where "
            "its votes are: --db"
        )
    try:
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
    except OSError:
        return  # one that is not there is made; what else is amiss, opening it tells
    if start and start != _SQLITE:
        raise ConfigError(
            f"cannot open {path}: expected a SQLite database, found a file that is "
            "not a database; name another"
        )


def _postgres_engine(url: URL) -> Engine:
    try:
        # No pool_pre_ping: one more round trip a vote; a lost connection is an error the browser
        # repeats after, and the pool then starts anew.
        return create_engine(url.set(drivername="postgresql+psycopg"), pool_size=10)
    except ImportError as error:
        raise ConfigError(
            "a postgresql:// URL needs psycopg: pip install 'hebench[postgres]'"
        ) from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # an acknowledged vote survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    deferred = connection.get_execution_options().get("hebench_deferred", False)
    connection.exec_driver_sql("BEGIN" if deferred else "BEGIN IMMEDIATE")


def _migrate(database: Database) -> None:
    """Bring the schema to the newest version; of several processes that start, one does it."""
    config = Config()
    config.set_main_option(
        "script_location", str(resources.files("hebench.human") / "migrations").replace("%", "%%")
    )
    with database.begin() as connection:
        if database.postgres:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATING})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
