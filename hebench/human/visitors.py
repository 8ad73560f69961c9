"""Who sends a request, and whether it may count: cookies, form tokens, limits, roles.

A session's secret is in a cookie that scripts cannot read and other sites do not send; its name
holds the study's, since cookies of one host are shared by all ports. Everything here raises
`AccessDenied`, which `hebench.human.app` turns into a page.

Tries of strangers are counted in the database, for all workers together. Those of known raters
are counted in each worker's memory: a write for each page would cost more than the page.
"""

import secrets
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response

from hebench.human.access import AccessDenied, Person, person, within_limit
from hebench.human.dashboard import Latest
from hebench.human.database import Database
from hebench.human.security import Form, form_token, is_form_token, is_from_elsewhere, read_form
from hebench.human.study import Study

MINUTE = 60.0
# Tries a minute. A class that enters together shares one address; a rater's browser that was
# offline sends its votes at once.
ENTRIES_PER_ADDRESS = 120
FAILURES_PER_ADDRESS = 120
VOTES_PER_RATER = 120
PAGES_PER_RATER = 240
_YEAR = 31_536_000


class Tries:
    """How often each known rater asked in the present minute, in this process."""

    def __init__(self) -> None:
        """Begin with no tries."""
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def within(self, key: str, count: int, now: float) -> bool:
        """Count a try and return whether it is among the first `count` of its minute."""
        minute = int(now // MINUTE)
        with self._lock:
            if minute != self._minute:
                self._minute, self._counts = minute, Counter()
            self._counts[key] += 1
            return self._counts[key] <= count


@dataclass(frozen=True, kw_only=True)
class Site:
    """The study that a server shows, and what it signs with."""

    database: Database
    study: Study
    key: bytes
    tries: Tries = field(default_factory=Tries)
    latest: Latest = field(default_factory=Latest)


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Someone whose browser has a session of this study."""

    person: Person
    session: str


def site_of(request: Request) -> Site:
    """Return what this server shows."""
    found: Site = request.app.state.site
    return found


def visitor_of(request: Request) -> Visitor | None:
    """Return who has come in, None for a browser without a session of this study."""
    site = site_of(request)
    session = request.cookies.get(_cookie(request, "session"))
    if not session:
        return None
    found = person(site.database, session)
    if found.study != site.study.name:
        raise AccessDenied("signed_out")
    return Visitor(person=found, session=session)


def require_visitor(request: Request) -> Visitor:
    """Return who has come in. Raises AccessDenied; whoever guesses is soon told to wait."""
    try:
        found = visitor_of(request)
    except AccessDenied:
        limit(request, f"door:{address(request)}", FAILURES_PER_ADDRESS)
        raise
    if found is None:
        raise AccessDenied("signed_out")
    return found


Known = Annotated[Visitor, Depends(require_visitor)]


def require_rater(visitor: Known, request: Request) -> Visitor:
    """Return a visitor who judges. Raises AccessDenied for an owner."""
    if visitor.person.role not in ("rater", "adjudicator"):
        raise AccessDenied("forbidden")
    limit_rater(request, visitor, "page", PAGES_PER_RATER)
    return visitor


def require_owner(visitor: Known, request: Request) -> Visitor:
    """Return a visitor who owns the study. Raises AccessDenied for others."""
    if visitor.person.role != "owner":
        raise AccessDenied("forbidden")
    limit_rater(request, visitor, "page", PAGES_PER_RATER)
    return visitor


def signed_form(
    request: Request, visitor: Known, form: Annotated[Form, Depends(read_form)]
) -> Form:
    """Return the fields of a form that a page of ours sent for this session."""
    _check_token(request, form, visitor.session)
    return form


def entry_form(request: Request, form: Annotated[Form, Depends(read_form)]) -> Form:
    """Return the fields of a form from a browser that has no session yet."""
    _check_token(request, form, request.cookies.get(_cookie(request, "visit"), ""))
    return form


Judge = Annotated[Visitor, Depends(require_rater)]
Owner = Annotated[Visitor, Depends(require_owner)]
Signed = Annotated[Form, Depends(signed_form)]
Entering = Annotated[Form, Depends(entry_form)]


def token_for(request: Request, visitor: Visitor) -> str:
    """Return a token for the forms of a visitor's page."""
    return form_token(site_of(request).key, visitor.session)


def entry_token(request: Request) -> tuple[str, str]:
    """Return a token for the form that enters, and the secret that `remember_visit` must keep."""
    visit = request.cookies.get(_cookie(request, "visit")) or secrets.token_urlsafe(16)
    return form_token(site_of(request).key, visit), visit


def remember_visit(request: Request, response: Response, visit: str) -> None:
    """Keep a browser's secret until it has entered."""
    _set_cookie(request, response, "visit", visit, 3600)


def sign_in(request: Request, response: Response, session: str) -> None:
    """Give a browser its session."""
    _set_cookie(request, response, "session", session, _YEAR)


def sign_out(request: Request, response: Response) -> None:
    """Take a browser's session away."""
    _set_cookie(request, response, "session", "", 0)


def limit(request: Request, key: str, count: int) -> None:
    """Count a stranger's try. Raises HTTPException 429 after `count` of them in a minute."""
    site = site_of(request)
    if not within_limit(site.database, site.study.name, key, limit=count, seconds=MINUTE):
        raise HTTPException(429, headers={"Retry-After": "60"})


def limit_rater(request: Request, visitor: Visitor, what: str, count: int) -> None:
    """Count a known rater's try as `limit` does."""
    site = site_of(request)
    key = f"{what}:{visitor.person.rater}"
    if not site.tries.within(key, count, site.database.clock()):
        raise HTTPException(429, headers={"Retry-After": "60"})


def address(request: Request) -> str:
    """Return where a request comes from; of a proxy on this machine, what it says."""
    return request.client.host if request.client else "unknown"


def _check_token(request: Request, form: Form, secret: str) -> None:
    given = request.headers.get("x-form-token") or dict(form).get("token", "")
    key = site_of(request).key
    if is_from_elsewhere(request) or not secret or not is_form_token(key, secret, given):
        raise HTTPException(403)


def _cookie(request: Request, kind: str) -> str:
    prefix = "__Host-" if request.url.scheme == "https" else ""
    return f"{prefix}hebench_{kind}_{site_of(request).study.name}"


def _set_cookie(request: Request, response: Response, kind: str, value: str, age: int) -> None:
    response.set_cookie(
        _cookie(request, kind),
        value,
        max_age=age,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
