"""What raters do: come in by a link, read, judge, take back, correct, be forgotten.

    /rate/TOKEN      the link: what this is about, and consent
    /work            the page to judge; /claim gives a script the next ones
    /vote, /undo     one form each; a script gets JSON, a plain browser the next page
    /history         the rater's own votes, each of which can be corrected
    /data            what is kept, and its deletion

Adjudicators use the same pages; their work is what raters disagree on.
"""

import functools
import uuid
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from hebench.human import store
from hebench.human.access import AccessDenied, enter, forget, leave, peek
from hebench.human.adjudicate import claim_disputed
from hebench.human.forms import ballot_of
from hebench.human.pages import page, render
from hebench.human.store import Assignment, Claimed
from hebench.human.visitors import (
    ENTRIES_PER_ADDRESS,
    VOTES_PER_RATER,
    Entering,
    Judge,
    Known,
    Signed,
    Visitor,
    address,
    entry_token,
    limit,
    limit_rater,
    remember_visit,
    sign_in,
    sign_out,
    site_of,
    visitor_of,
)

AHEAD = 5  # pages that a script holds, so that a lost connection does not stop anyone
_TOGETHER = 50  # votes on a page of the history

router = APIRouter()
Token = Annotated[str, Path(max_length=200)]
Slot = Annotated[str, Path(max_length=64)]


def form_schema(*names: str) -> dict[str, Any]:
    """Return what OpenAPI says of a form with these fields."""
    properties = {name: {"type": "string"} for name in ("token", *names)}
    content = {"schema": {"type": "object", "properties": properties}}
    return {"requestBody": {"content": {"application/x-www-form-urlencoded": content}}}


def wants_json(request: Request) -> bool:
    """Return whether a script asks."""
    return request.headers.get("accept", "").startswith("application/json")


@router.get("/", response_class=HTMLResponse)
def home(request: Request) -> Response:
    """Say what this is, or lead a visitor on."""
    try:
        visitor = visitor_of(request)
    except AccessDenied:
        visitor = None
    if visitor is None:
        return page(request, "home.html")
    return RedirectResponse(_start(visitor), 303)


# --------------------------------------------------------------------------------- coming in


@router.get("/rate/{token}", response_class=HTMLResponse)
def look_in(request: Request, token: Token) -> Response:
    """Show what a link is for; programs that preview links change nothing."""
    limit(request, f"enter:{address(request)}", ENTRIES_PER_ADDRESS)
    invite = peek(site_of(request).database, token)
    if invite.study != site_of(request).study.name:
        raise AccessDenied("unknown")
    try:
        visitor = visitor_of(request)
    except AccessDenied:
        visitor = None
    signed, visit = entry_token(request)
    response = page(
        request,
        "enter.html",
        token=signed,
        invite=invite,
        start=_start(visitor) if visitor and visitor.person.role == invite.role else None,
    )
    remember_visit(request, response, visit)
    return response


@router.post("/rate/{token}", response_class=RedirectResponse, openapi_extra=form_schema("consent"))
def come_in(request: Request, token: Token, form: Entering) -> Response:
    """Enter by a link, with consent."""
    limit(request, f"enter:{address(request)}", ENTRIES_PER_ADDRESS)
    site = site_of(request)
    if peek(site.database, token).study != site.study.name:
        raise AccessDenied("unknown")
    entry = enter(site.database, token, consent=dict(form).get("consent", ""))
    found = Visitor(person=entry.person, session=entry.session)
    response = RedirectResponse(_start(found), 303)
    sign_in(request, response, entry.session)
    return response


@router.post("/leave", response_class=RedirectResponse, openapi_extra=form_schema())
def go_out(request: Request, visitor: Known, form: Signed) -> Response:
    """Sign this browser out."""
    leave(site_of(request).database, visitor.session)
    response = RedirectResponse("/", 303)
    sign_out(request, response)
    return response


def _start(visitor: Visitor) -> str:
    return "/owner" if visitor.person.role == "owner" else "/work"


# ----------------------------------------------------------------------------------- judging


@router.get("/work", response_class=HTMLResponse)
def work(request: Request, visitor: Judge) -> Response:
    """Show the page to judge, or why there is none."""
    return _work(request, visitor, _claim(request, visitor, 1))


def _work(request: Request, visitor: Visitor, claimed: Claimed) -> Response:
    return page(
        request,
        "work.html",
        visitor=visitor,
        claimed=claimed,
        past=None,
        path="/work",
        **_fresh(request),
    )


@router.post("/claim", openapi_extra=form_schema("held"))
def claim_pages(request: Request, visitor: Judge, form: Signed) -> JSONResponse:
    """Give a script the next pages as HTML, those that it has already by their slot alone."""
    claimed = _claim(request, visitor, AHEAD)
    held = {value for name, value in form if name == "held"}
    return JSONResponse(
        {
            "status": claimed.status,
            "progress": asdict(claimed.progress),
            "message": render(request, "status.html", claimed=claimed, visitor=visitor),
            "pages": [
                {"slot": one.slot} if one.slot in held else _shown(request, one, visitor)
                for one in claimed.assignments
            ],
        }
    )


@router.post(
    "/vote",
    response_class=RedirectResponse,
    openapi_extra=form_schema("id", "slot", "seconds", "outcome", "verdict", "span", "note"),
)
def cast(request: Request, visitor: Judge, form: Signed) -> Response:
    """Take a vote, or a correction of one; the same id again changes nothing."""
    limit_rater(request, visitor, "vote", VOTES_PER_RATER)
    site = site_of(request)
    ballot = ballot_of(site.study, form, now=site.database.clock())
    receipt = store.vote(site.database, visitor.person.rater, ballot)
    if wants_json(request):
        return JSONResponse(asdict(receipt))
    return RedirectResponse("/history" if ("then", "history") in form else "/work", 303)


@router.post("/undo", response_class=HTMLResponse, openapi_extra=form_schema("id"))
def take_back(request: Request, visitor: Judge, form: Signed) -> Response:
    """Take back the latest vote and show its page again."""
    site = site_of(request)
    again = store.undo(site.database, visitor.person.rater, id=dict(form).get("id", ""))
    if wants_json(request):
        shown = _shown(request, again, visitor) if again else None
        return JSONResponse({"page": shown})
    if again is None:
        return RedirectResponse("/work", 303)
    claimed = _claim(request, visitor, 1)
    return _work(
        request,
        visitor,
        Claimed(status="work", assignments=(again,), progress=claimed.progress),
    )


def _claim(request: Request, visitor: Visitor, ahead: int) -> Claimed:
    database, person = site_of(request).database, visitor.person
    if person.role == "adjudicator":
        return claim_disputed(database, person.rater)
    return store.claim(database, person.rater, ahead=ahead)


def _shown(request: Request, assignment: Assignment, visitor: Visitor) -> dict[str, str]:
    html = render(
        request,
        "item.html",
        assignment=assignment,
        past=None,
        token="",  # a script sends it in a header
        visitor=visitor,
        **_fresh(request),
    )
    return {"slot": assignment.slot, "html": html}


def _fresh(request: Request) -> dict[str, Any]:
    """Return what a form needs anew each time: ids that make repeats harmless, and the time."""
    return {
        "new_id": functools.partial(lambda: str(uuid.uuid4())),
        "now": f"{site_of(request).database.clock():.3f}",
    }


# ------------------------------------------------------------------------- a rater's own votes


@router.get("/history", response_class=HTMLResponse)
def own_votes(
    request: Request, visitor: Judge, skip: Annotated[int, Query(ge=0, le=1_000_000)] = 0
) -> Response:
    """List a rater's own votes, newest first, some at a time."""
    database, rater = site_of(request).database, visitor.person.rater
    return page(
        request,
        "history.html",
        visitor=visitor,
        votes=store.history(database, rater, limit=_TOGETHER, skip=skip),
        total=store.votes_standing(database, rater),
        skip=skip,
        together=_TOGETHER,
    )


@router.get("/history/{slot}", response_class=HTMLResponse)
def own_vote(request: Request, visitor: Judge, slot: Slot) -> Response:
    """Show one of a rater's own votes to correct it."""
    past = store.own_vote(site_of(request).database, visitor.person.rater, slot)
    if past is None:
        raise HTTPException(404)
    return page(request, "correct.html", visitor=visitor, past=past, **_fresh(request))


@router.get("/data", response_class=HTMLResponse)
def own_data(request: Request, visitor: Known) -> Response:
    """Say what is kept of a visitor, and offer to delete it."""
    return page(request, "data.html", visitor=visitor, sure=True)


@router.post("/data/delete", response_class=HTMLResponse, openapi_extra=form_schema("sure"))
def delete_own_data(request: Request, visitor: Known, form: Signed) -> Response:
    """Erase a visitor's votes, notes and sessions."""
    if ("sure", "yes") not in form:
        return page(request, "data.html", visitor=visitor, sure=False, path="/data", status=422)
    erased = forget(site_of(request).database, visitor.person.rater)
    response = page(request, "forgotten.html", erased=erased, path="/")
    sign_out(request, response)
    return response
