"""A real PostgreSQL server of one's own, in a temporary folder, for tests and benchmarks."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BINARIES = Path("/usr/lib/postgresql/15/bin")
MISSING = f"needs PostgreSQL 15 (Debian's postgresql-15): no {BINARIES}"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server, reached over a socket in its folder."""

    folder: Path
    options: str

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -k {self.folder} {self.options}"
        log = self.folder / "log"
        _run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        _run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def running(options: str = "-c fsync=off") -> Iterator[Server]:
    """Start a server, give it, stop it and remove its folder."""
    folder = Path(tempfile.mkdtemp(prefix="hebench-pg-"))  # short: a socket's path has 107 bytes
    server = Server(folder=folder, options=f"-c max_connections=200 {options}")
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        _run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: object) -> None:
    # The server refuses root.
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    subprocess.run(
        [str(BINARIES / program), *map(str, arguments)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        timeout=60,
        **user,
    )
