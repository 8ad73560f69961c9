"""The server as it runs: addresses, advice, what is wrong at the start, several workers."""

import multiprocessing
import os
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from hebench.errors import ConfigError, DataError
from hebench.human.access import enter, invite
from hebench.human.collected import collected
from hebench.human.database import Database, open_database
from hebench.human.serve import address_of, advice, serve
from tests.human.made_study import new_id, published
from tests.human.web import ENGINES


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.8.9.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.7", False),
        ("example.org", False),
    ],
)
def test_whoever_lets_others_in_is_told_what_to_put_in_front(host: str, local: bool) -> None:
    told = advice(host)
    assert (told is None) == local
    assert local or (told and "TLS" in told and host in told)


def test_the_address_is_one_that_a_browser_opens() -> None:
    assert address_of("127.0.0.1", 8765) == "http://127.0.0.1:8765"
    assert address_of("0.0.0.0", 80) == "http://localhost:80"
    assert address_of("::1", 8765) == "http://[::1]:8765"


def test_a_study_that_is_not_there_and_a_taken_port_are_said(tmp_path: Path) -> None:
    url = str(tmp_path / "study.sqlite")
    with pytest.raises(DataError, match="found no 'nothing'"):
        serve(database_url=url, study="nothing")
    with open_database(url) as database:
        published(database)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}"):
            serve(database_url=url, study="summaries-1", port=port)
    with pytest.raises(ConfigError, match="port 99999"):
        serve(database_url=url, study="summaries-1", port=99_999)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@ENGINES
def test_a_server_with_workers_takes_votes_and_ends_when_told(
    database: Database, url: str, workers: int
) -> None:
    published(database)
    database = Database(engine=database.engine, clock=time.time)  # as the server's
    session = enter(database, invite(database, "summaries-1").token, consent="1").session
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(
        target=serve,
        kwargs={"database_url": url, "study": "summaries-1", "port": port, "workers": workers},
    )
    server.start()
    try:
        cookies = {"hebench_session_summaries-1": session}
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            cookies=cookies,
            headers={"accept": "application/json"},
            transport=httpx.HTTPTransport(retries=8),
            timeout=30,
        ) as client:
            page = client.get("/work").text
            token = re.search(r'data-token="([^"]+)"', page)
            slot = re.search(r'data-slot="([^"]+)"', page)
            assert token and slot
            body = {"id": new_id(), "slot": slot[1], "seconds": "9", "outcome": "tie"}
            for replay in (False, True, True):  # by whichever worker
                answer = client.post("/vote", data=body, headers={"x-form-token": token[1]})
                assert answer.json()["replayed"] is replay
    finally:
        assert server.pid
        os.kill(server.pid, signal.SIGTERM)
        server.join(20)
    assert not server.is_alive()
    assert len(collected(database, "summaries-1").votes) == 1
