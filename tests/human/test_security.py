"""Doors that stay shut: tokens of all wrong kinds, other sites' forms, injections, sizes, roles."""

import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from hebench.human import security, serve, visitors
from hebench.human.access import enter, invite, revoke
from hebench.human.collected import collected
from hebench.human.database import Database
from tests.human.made_study import Clock, published
from tests.human.web import ON_SQLITE, Guest, app_for, guest

pytestmark = ON_SQLITE
DAY = 86_400


@pytest.fixture
def app(database: Database) -> FastAPI:
    published(database)
    return app_for(database)


# -------------------------------------------------------------------------------------- tokens


def test_a_token_with_any_letter_changed_opens_nothing(database: Database, app: FastAPI) -> None:
    token = invite(database, "summaries-1").token
    for place in range(0, len(token), 5):
        other = "A" if token[place] != "A" else "B"
        guessed = token[:place] + other + token[place + 1 :]
        assert Guest(app).get(f"/rate/{guessed}").status_code == 404, place


@pytest.mark.parametrize(
    "token",
    ["x", "A" * 48, "..%2F..%2Fetc%2Fpasswd", "' OR 1=1 --", "%00", "א", "a" * 199, "\u202e"],
)
def test_what_is_no_token_opens_nothing(app: FastAPI, token: str) -> None:
    found = Guest(app).get(f"/rate/{token}")
    assert found.status_code == 404
    assert "passwd" not in found.text.replace(token, "")


def test_an_expired_and_a_withdrawn_link_say_so_and_end_their_sessions(
    database: Database, app: FastAPI, clock: Clock
) -> None:
    link = invite(database, "summaries-1", days=2)
    rater = Guest(app)
    rater.enter(link.token)
    revoked = invite(database, "summaries-1", days=30)
    other = Guest(app)
    other.enter(revoked.token)
    revoke(database, "summaries-1", revoked.id)
    assert other.get("/work").status_code == 410
    assert "בוטל" in other.text()
    clock.now += 2 * DAY
    assert rater.get("/work").status_code == 410
    assert Guest(app).get(f"/rate/{link.token}").status_code == 410


def test_a_token_and_a_session_of_another_study_open_nothing(
    database: Database, app: FastAPI
) -> None:
    published(database, name="other-2")
    foreign = invite(database, "other-2")
    assert Guest(app).get(f"/rate/{foreign.token}").status_code == 404
    thief = Guest(app)
    mine = invite(database, "summaries-1").token
    thief.get(f"/rate/{mine}")
    assert thief.submit("", to=f"/rate/{foreign.token}").status_code == 404
    session = enter(database, foreign.token, consent="1").session
    thief.client.cookies.set("hebench_session_summaries-1", session)
    assert thief.get("/work").status_code == 401


@pytest.mark.parametrize("session", ["x", "' OR 1=1 --", "a" * 5000, "../../x", "%00"])
def test_a_guessed_session_is_nobodys(app: FastAPI, session: str) -> None:
    thief = Guest(app)
    thief.client.cookies.set("hebench_session_summaries-1", session)
    assert thief.get("/work").status_code == 401


def test_the_session_cookie_is_out_of_reach(database: Database, app: FastAPI) -> None:
    plain, secure = Guest(app), Guest(app, scheme="https")
    for reader, name, more in (
        (plain, "hebench_session_summaries-1", set()),
        (secure, "__Host-hebench_session_summaries-1", {"secure"}),
    ):
        entered = reader.enter(invite(database, "summaries-1").token)
        cookie = entered.history[0].headers["set-cookie"]
        parts = {part.strip().lower() for part in cookie.split(";")}
        assert cookie.startswith(f"{name}=")
        assert {"httponly", "samesite=lax", "path=/"} | more <= parts
        assert ("secure" in parts) == bool(more)
    assert "max-age" in secure.get("/work").headers["strict-transport-security"]


# --------------------------------------------------------------------------------------- forms


def test_a_vote_needs_the_token_of_its_own_session(database: Database, app: FastAPI) -> None:
    rater, other = guest(database, app), guest(database, app)
    fields = dict([*rater.form("/vote"), ("outcome", "first")])
    nearly = fields["token"][:-1] + ("0" if fields["token"][-1] != "0" else "1")
    for token in ("", "x", nearly, dict(other.form("/vote"))["token"]):
        assert rater.post("/vote", fields | {"token": token}).status_code == 403
    assert rater.post("/vote", fields | {"token": "א.ב"}).status_code == 403
    assert collected(database, "summaries-1").votes == ()
    assert rater.post("/vote", fields).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_from_another_site_does_not_count(
    database: Database, app: FastAPI, headers: dict[str, str]
) -> None:
    rater = guest(database, app)
    fields = dict([*rater.form("/vote"), ("outcome", "first")])
    assert rater.post("/vote", fields, headers=headers).status_code == 403
    own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert rater.post("/vote", fields, headers=own).status_code == 200


def test_entering_needs_a_form_that_this_browser_was_given(
    database: Database, app: FastAPI
) -> None:
    token = invite(database, "summaries-1").token
    victim, attacker = Guest(app), Guest(app)
    attacker.get(f"/rate/{token}")
    assert victim.post(f"/rate/{token}", dict(attacker.form(""))).status_code == 403


def test_consent_to_another_text_does_not_let_in(database: Database, app: FastAPI) -> None:
    reader = Guest(app)
    token = invite(database, "summaries-1").token
    reader.get(f"/rate/{token}")
    assert reader.submit("", to=f"/rate/{token}", consent="0").status_code == 403
    assert "נוסח ההסכמה" in reader.text()


def test_a_slot_that_was_never_given_to_a_rater_is_refused(
    database: Database, app: FastAPI
) -> None:
    rater, other = guest(database, app), guest(database, app)
    slot = dict(other.form("/vote"))["slot"]
    assert rater.submit("/vote", outcome="first", slot=slot).status_code == 403
    rater.get("/work")
    for junk in ("' OR 1=1 --", "", "x" * 5000, "../../etc/passwd", "\0"):
        rater.get("/work")
        assert rater.submit("/vote", outcome="first", slot=junk).status_code == 403, junk
    assert collected(database, "summaries-1").votes == ()


# --------------------------------------------------------------------------------------- roles

OWNERS = ("", "/invites", "/export/card.md")
ACTS = ("reveal", "state", "quality", "exclude", "lift", "invites", "invites/revoke")


@pytest.mark.parametrize("role", ["rater", "adjudicator"])
def test_only_owners_see_the_owners_pages(database: Database, app: FastAPI, role: str) -> None:
    rater = guest(database, app, role=role)
    token = dict(rater.form("/undo"))["token"]
    for path in OWNERS:
        assert rater.get(f"/owner{path}").status_code == 403, path
    for path in ACTS:
        found = rater.post(f"/owner/{path}", {"token": token, "state": "close"})
        assert found.status_code == 403, path
    stranger = Guest(app)
    for path in OWNERS:
        assert stranger.get(f"/owner{path}").status_code == 401, path


def test_owners_do_not_vote(database: Database, app: FastAPI) -> None:
    owner = guest(database, app, role="owner")
    for path in ("/work", "/history"):
        assert owner.get(path).status_code == 403


# --------------------------------------------------------------------------------------- limits


def test_entering_is_limited_by_address(
    database: Database, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.human.rating.ENTRIES_PER_ADDRESS", 3)
    reader = Guest(app)
    assert [reader.get("/rate/guess").status_code for _ in range(5)] == [404] * 3 + [429] * 2
    assert reader.get("/rate/guess").headers["retry-after"] == "60"
    assert "להמתין דקה" in reader.text()


def test_guessing_sessions_is_limited_by_address(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "FAILURES_PER_ADDRESS", 3)
    thief = Guest(app)
    codes = []
    for number in range(5):
        thief.client.cookies.set("hebench_session_summaries-1", f"guess{number}")
        codes.append(thief.get("/work").status_code)
    assert codes == [401] * 3 + [429] * 2


def test_votes_are_limited_by_rater_and_the_next_minute_is_free(
    database: Database, app: FastAPI, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hebench.human.rating.VOTES_PER_RATER", 2)
    rater = guest(database, app)
    fields = dict([*rater.form("/vote"), ("outcome", "first")])
    codes = [rater.post("/vote", fields).status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    clock.now += 60
    assert rater.post("/vote", fields).status_code == 200


# ---------------------------------------------------------------------------- sizes and headers


def test_a_body_of_fifty_megabytes_is_refused(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    form = {"content-type": "application/x-www-form-urlencoded"}
    pieces = [b"a" * 1_000_000] * 50
    for headers in (form | {"content-length": "50000000"}, form):  # announced, and not
        found = rater.client.post("/vote", content=iter(pieces), headers=headers)
        assert found.status_code == 413 and "content-security-policy" in found.headers
    for length in ("-5", "x", "5e9"):
        bad = form | {"content-length": length}
        assert rater.client.post("/vote", content=b"a", headers=bad).status_code == 413


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", ""])
def test_other_kinds_of_bodies_are_not_read(database: Database, app: FastAPI, kind: str) -> None:
    rater = guest(database, app)
    found = rater.client.post("/vote", content=b"{}", headers={"content-type": kind})
    assert found.status_code == 415


def test_a_thousand_fields_are_too_many(database: Database, app: FastAPI) -> None:
    rater = guest(database, app)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    content = "&".join(["a=b"] * 3000)
    assert rater.client.post("/vote", content=content, headers=headers).status_code == 422


@pytest.mark.parametrize("path", ["/", "/work", "/nothing", "/static/x/human.css", "/rate/x"])
def test_every_answer_carries_the_headers(app: FastAPI, path: str) -> None:
    found = Guest(app).get(path).headers
    policy = found["content-security-policy"]
    for part in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'self'"):
        assert part in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "same-origin"
    assert "immutable" in found["cache-control"] or found["cache-control"] == "no-store"
    assert "server" not in found


def test_pages_hold_no_inline_script_or_style(database: Database, app: FastAPI) -> None:
    owner, rater = guest(database, app, role="owner"), guest(database, app)
    owner.get("/owner")
    for page in (owner.page, rater.page):
        scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", page, flags=re.DOTALL)
        assert all(text == "" or text.startswith("{") for text in scripts)
        assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:", page)


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../../../etc/passwd",
        "/static/x/..%2f..%2f..%2fetc%2fpasswd",
        "/static/x/%2e%2e/serve.py",
        "/static/x//etc/passwd",
        "/static/x/fonts/OFL.txt",
        "/static/x/human.css%00",
    ],
)
def test_files_are_served_by_name_and_nothing_else_is(app: FastAPI, path: str) -> None:
    assert Guest(app).get(path).status_code == 404


def test_there_is_no_public_description_of_the_routes(app: FastAPI) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert Guest(app).get(path).status_code == 404


# --------------------------------------------------------------------------------- slow clients


@pytest.fixture
def port(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A real server that loses patience soon."""
    monkeypatch.setattr(serve, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(security, "BODY_SECONDS", 0.3)
    config = uvicorn.Config(
        app, port=0, http=serve.PatientProtocol, ws="none", lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def talk(port: int, *pieces: bytes, pause: float = 0.1) -> bytes:
    """Send pieces slowly and return all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for piece in pieces:
            try:
                line.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        found = b""
        try:
            while more := line.recv(65536):
                found += more
        except ConnectionResetError:
            pass
        return found


def test_a_client_that_dribbles_its_request_is_cut_off(port: int) -> None:
    assert talk(port) == b"", "a silent one"
    dribble = [b"GET / HT"] + [b"T"] * 8
    assert b"200 OK" not in talk(port, *dribble)


def test_a_client_that_dribbles_its_body_is_cut_off(
    port: int, database: Database, app: FastAPI
) -> None:
    session = enter(database, invite(database, "summaries-1").token, consent="1").session
    head = (
        "POST /vote HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Cookie: hebench_session_summaries-1={session}\r\n\r\n"
    )
    assert b" 408 " in talk(port, head.encode(), *[b"a"] * 6)


def test_a_large_body_is_refused_before_it_is_sent(port: int) -> None:
    head = b"POST /vote HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    assert b" 413 " in talk(port, head, pause=0)


def test_a_quick_client_is_served_while_others_dribble(port: int) -> None:
    slow = threading.Thread(target=talk, args=(port, b"GET / HT"))
    slow.start()
    quick = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 200 " in talk(port, quick, pause=0)
    slow.join()
