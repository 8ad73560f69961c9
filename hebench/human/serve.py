"""Run the web application: one process or several, on this machine unless told otherwise.

    >>> serve(database_url="study.sqlite", study="summaries-1", port=8765)

Several workers share one socket and one database; with SQLite they take turns to write, so that
PostgreSQL is the better choice for them. The server speaks plain HTTP. Whoever lets other
machines in puts a proxy with TLS in front: `advice` says so.
"""

import asyncio
import contextlib
import functools
import ipaddress
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from hebench.errors import ConfigError, HebenchError
from hebench.human.app import create_app
from hebench.human.database import open_database

HEAD_SECONDS = 20.0  # a client has so long to send the head of a request
_MOST_CONNECTIONS = 2_000  # of a worker; browsers hold up to six each


def serve(
    *,
    database_url: str,
    study: str,
    host: str = "127.0.0.1",
    port: int = 8765,
    workers: int = 1,
) -> None:
    """Serve a published study until interrupted.

    Raises ConfigError if the address is taken or not ours, DataError if the study is not there.
    """
    make = functools.partial(app_of, database_url, study)
    make().state.site.database.close()  # what is wrong with the study is said here, once
    listening = _listen(host, port)
    config = uvicorn.Config(
        make,
        factory=True,
        workers=workers,
        http=PatientProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,  # addresses of links hold their tokens
        server_header=False,
        timeout_keep_alive=15,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn passes on when it has ended
        if workers == 1:
            uvicorn.Server(config).run(sockets=[listening])
        else:
            Multiprocess(config, sockets=[listening]).run()


def app_of(database_url: str, study: str) -> FastAPI:
    """Return the application of a study in a database, for a worker of its own."""
    database = open_database(database_url)
    try:
        return create_app(database, study)
    except HebenchError:
        database.close()
        raise


def address_of(host: str, port: int) -> str:
    """Return where a browser on this machine finds the server."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{'localhost' if host in ('0.0.0.0', '::') else shown}:{port}"


def advice(host: str) -> str | None:
    """Return what to put in front of a server that other machines can reach, None for loopback."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if local:
        return None
    return (
        f"other machines can reach {host} over plain HTTP: anyone on the way can read links and "
        "votes. Put a proxy with TLS in front (such as Caddy or nginx) that keeps "
        "the Host header, sends X-Forwarded-Proto and X-Forwarded-For, limits connections, and "
        "talks to this server on 127.0.0.1; a proxy elsewhere is trusted by FORWARDED_ALLOW_IPS"
    )


class PatientProtocol(H11Protocol):
    """HTTP that does not wait for ever for a request: slow clients must not use up the server."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came, and go on expecting if it was not yet a whole head."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._busy():
            self._stop()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self._busy():
            self.transport.close()

    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ConfigError(f"port: expected 0 to 65535, found port {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=512)
    except (OSError, TypeError, ValueError) as error:  # the last two: a host that is no name
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error}; choose another"
        ) from error
    found.set_inheritable(True)
    return found
