"""The owner's pages: results as they come in, quality, invitations, closing, exports.

/owner            the dashboard; models are numbers until the study closes
/owner/reveal     the same with names; before the end that is noted: `hebench.human.blinding`
/owner/invites    links: make, list, withdraw
/owner/export     the files of `hebench.human.export`, once the study is closed
"""

import logging
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from hebench.errors import ConfigError
from hebench.human import export
from hebench.human.access import ROLES, Role, invite, invites, revoke
from hebench.human.blinding import MAX_WHY, close_study, reopen_study
from hebench.human.blinding import reveal as note_reveal
from hebench.human.card import study_card
from hebench.human.collected import collected
from hebench.human.dashboard import ALPHA_REASONS, NEEDED_REASONS, REASONS, dashboard
from hebench.human.pages import page
from hebench.human.publish import study_state
from hebench.human.quality import MAX_DETAIL, apply_rules, exclude, lift
from hebench.human.rating import form_schema
from hebench.human.results import study_results
from hebench.human.security import Form
from hebench.human.study import Study
from hebench.human.visitors import Owner, Signed, Visitor, site_of

EXPORTS = {
    "votes.jsonl": "application/jsonl",
    "raw.jsonl": "application/jsonl",
    "preferences.jsonl": "application/jsonl",
    "evidence.json": "application/json",
    "review.jsonl": "application/jsonl",
    "card.md": "text/markdown",
}
log = logging.getLogger(__name__)
router = APIRouter(prefix="/owner", default_response_class=HTMLResponse)


@router.get("")
def results(request: Request, visitor: Owner) -> Response:
    """Show the dashboard."""
    return _dashboard(request, visitor, named=False)


@router.post("/reveal", openapi_extra=form_schema("why"))
def reveal(request: Request, visitor: Owner, form: Signed) -> Response:
    """Show the dashboard with models named; before the end, who asked and why is kept first."""
    site = site_of(request)
    note_reveal(
        site.database,
        site.study.name,
        what="dashboard",
        why=dict(form).get("why", ""),
        rater=visitor.person.rater,
    )
    return _dashboard(request, visitor, named=True)


def _dashboard(request: Request, visitor: Visitor, *, named: bool) -> Response:
    site = site_of(request)
    return page(
        request,
        "owner.html",
        visitor=visitor,
        path="/owner",
        board=dashboard(
            site.database, site.study.name, key=site.key, named=named, latest=site.latest
        ),
        alpha_reasons=ALPHA_REASONS,
        needed_reasons=NEEDED_REASONS,
        reasons=REASONS,
        moment=export.moment,
        most_why=MAX_WHY,
        most_detail=MAX_DETAIL,
        exports=_offered(site.study),
    )


@router.post("/state", openapi_extra=form_schema("state"))
def set_state(request: Request, visitor: Owner, form: Signed) -> Response:
    """Close the study, or open it again."""
    site, wanted = site_of(request), dict(form).get("state", "")
    if wanted == "close":
        close_study(site.database, site.study.name)
        export.settle(site.database, site.study.name)
    elif wanted == "reopen":
        reopen_study(site.database, site.study.name, rater=visitor.person.rater)
    else:
        raise HTTPException(422)
    log.warning("%s: %s by owner %s", site.study.name, wanted, visitor.person.pseudonym)
    return RedirectResponse("/owner", 303)


@router.post("/quality", openapi_extra=form_schema())
def check_quality(request: Request, visitor: Owner, form: Signed) -> Response:
    """Apply the study's rules for exclusions to the votes as they stand."""
    apply_rules(site_of(request).database, site_of(request).study.name)
    return RedirectResponse("/owner#exclusions", 303)


@router.post("/exclude", openapi_extra=form_schema("rater", "detail"))
def exclude_rater(request: Request, visitor: Owner, form: Signed) -> Response:
    """Set a rater's votes aside, with the owner's words as the reason."""
    site, fields = site_of(request), dict(form)
    exclude(
        site.database,
        site.study.name,
        reason="owner",
        by=visitor.person.pseudonym,
        rater=fields.get("rater", ""),
        detail=fields.get("detail", ""),
    )
    return RedirectResponse("/owner#exclusions", 303)


@router.post("/lift", openapi_extra=form_schema("exclusion"))
def lift_exclusion(request: Request, visitor: Owner, form: Signed) -> Response:
    """Let excluded votes count again."""
    site = site_of(request)
    number = _whole(form, "exclusion")
    lift(site.database, site.study.name, number, by=visitor.person.pseudonym)
    return RedirectResponse("/owner#exclusions", 303)


# --------------------------------------------------------------------------------- invitations


@router.get("/invites")
def links(request: Request, visitor: Owner) -> Response:
    """List the links that were made."""
    return _links(request, visitor, made=None)


@router.post("/invites", openapi_extra=form_schema("role", "people", "days"))
def make_link(request: Request, visitor: Owner, form: Signed) -> Response:
    """Make a link and show it, this once."""
    site = site_of(request)
    role = dict(form).get("role", "")
    if role not in ROLES:
        raise ConfigError("expected a role")
    made = invite(
        site.database,
        site.study.name,
        role=_role(role),
        people=_whole(form, "people"),
        days=float(_whole(form, "days")),
    )
    return _links(request, visitor, made=f"{request.base_url}rate/{made.token}")


@router.post("/invites/revoke", openapi_extra=form_schema("invite"))
def withdraw_link(request: Request, visitor: Owner, form: Signed) -> Response:
    """Withdraw a link and the sessions that were made with it."""
    site = site_of(request)
    revoke(site.database, site.study.name, _whole(form, "invite"))
    return RedirectResponse("/owner/invites", 303)


def _links(request: Request, visitor: Visitor, *, made: str | None) -> Response:
    site = site_of(request)
    return page(
        request,
        "invites.html",
        visitor=visitor,
        path="/owner/invites",
        made=made,
        roles=ROLES,
        invites=invites(site.database, site.study.name),
        now=site.database.clock(),
    )


def _role(name: str) -> Role:
    found: dict[str, Role] = {"rater": "rater", "adjudicator": "adjudicator", "owner": "owner"}
    return found[name]


def _whole(form: Form, name: str) -> int:
    value = dict(form).get(name, "")
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise ConfigError(f"{name}: expected a whole number")
    return int(value)


# ------------------------------------------------------------------------------------- exports


@router.get("/export/{name}", response_class=Response)
def download(
    request: Request, visitor: Owner, name: Annotated[str, Path(max_length=40)]
) -> Response:
    """Give one of the study's files."""
    if name not in EXPORTS:
        raise HTTPException(404)
    site = site_of(request)
    if study_state(site.database, site.study.name).state == "open":
        return page(request, "error.html", status=409, key="error.open", path="/owner")
    export.settle(site.database, site.study.name)
    # The board takes a file of votes that is named as its study is.
    filename = f"{site.study.name}.{name.removeprefix('votes.')}"
    return Response(
        _exported(request, name),
        media_type=f"{EXPORTS[name]}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{filename}"'},
    )


def _offered(study: Study) -> tuple[str, ...]:
    """Return the files that a study of this type has."""
    only = {"votes.jsonl", "preferences.jsonl", "evidence.json"} if study.paired else set()
    if study.type == "review":
        only = {"review.jsonl"}
    return tuple(name for name in EXPORTS if name in only | {"raw.jsonl", "card.md"})


def _exported(request: Request, name: str) -> str:
    site = site_of(request)
    if name == "raw.jsonl":
        return export.raw_jsonl(site.database, site.study.name)
    found = collected(site.database, site.study.name)
    if name == "votes.jsonl":
        return export.votes_jsonl(found)
    if name == "preferences.jsonl":
        return export.preference_jsonl(found)
    if name == "evidence.json":
        return export.evidence_json(found)
    if name == "review.jsonl":
        return export.review_jsonl(found)
    return study_card(found, study_results(found))
