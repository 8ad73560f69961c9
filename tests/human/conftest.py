"""Fixtures of human evaluation: a database on each real engine, a clock."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import event

from hebench.human.database import Database, open_database
from hebench.human.schema import metadata
from tests.human.made_study import Clock
from tests.human.postgres import BINARIES, MISSING, running


@pytest.fixture(scope="session")
def sqlite_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A SQLite file with the schema, for all tests of this session."""
    with open_database(str(tmp_path_factory.mktemp("database") / "study.sqlite")) as opened:
        # As for the server below: what a power cut leaves is not what these tests are about.
        event.listen(opened.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        opened.engine.dispose()
        yield opened


@pytest.fixture(scope="session")
def postgres_database() -> Iterator[Database]:
    """The same on a PostgreSQL server of this session's own."""
    if not BINARIES.is_dir():
        pytest.skip(MISSING)
    with running() as server, open_database(server.url) as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until a test moves it."""
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, clock: Clock) -> Database:
    """An empty database under the test's clock, once for each engine."""
    engine = "sqlite_database" if request.param == "sqlite" else "postgres_database"
    opened: Database = request.getfixturevalue(engine)
    with opened.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    return replace(opened, clock=clock)


@pytest.fixture
def url(database: Database) -> str:
    """The URL of that database, for opening it again."""
    shown: str = database.engine.url.render_as_string(hide_password=False)
    return shown.replace("postgresql+psycopg", "postgresql")
