"""The web application of one study: its routes, its headers, and what an error looks like.

    >>> app = create_app(open_database("study.sqlite"), "summaries-1")

Server-rendered pages that work without JavaScript, and a script that makes them faster and lets
raters go on without a connection. `hebench.human.serve` runs it.
"""

import http
from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.middleware.gzip import GZipMiddleware

from hebench.errors import DataError, HebenchError
from hebench.human import owner, rating
from hebench.human.access import AccessDenied, signing_key
from hebench.human.assets import assets
from hebench.human.ballot import BallotError
from hebench.human.database import Database
from hebench.human.pages import LANGUAGE_COOKIE, SWITCHES, VIEW_COOKIE, page, view_of
from hebench.human.publish import stored_study
from hebench.human.security import Guard, is_own_path
from hebench.human.store import ConflictError
from hebench.human.study import LANGUAGES
from hebench.human.visitors import Known, Signed, Site

_YEAR = 31_536_000
_DENIED = {"signed_out": 401, "forbidden": 403, "full": 403, "consent": 403, "unknown": 404}


def create_app(database: Database, study: str) -> FastAPI:
    """Return the application of a published study. Raises DataError if it is not there."""
    app = FastAPI(title="hebench human", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.site = Site(
        database=database,
        study=stored_study(database, study),
        key=signing_key(database, study),
    )
    app.include_router(rating.router)
    app.include_router(owner.router)
    app.add_api_route("/language/{language}", choose_language)
    app.add_api_route("/view", switch_view, methods=["POST"], openapi_extra=_VIEW_FORM)
    app.add_api_route("/static/{version}/{name:path}", static)
    app.add_exception_handler(HebenchError, _refused)
    app.add_exception_handler(AnyHTTPException, _failed)
    app.add_exception_handler(RequestValidationError, _failed)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    app.add_middleware(Guard)
    return app


_VIEW_FORM = rating.form_schema("switch", "back")


def choose_language(language: str, back: str = "/") -> Response:
    """Remember a language and lead back."""
    if language not in LANGUAGES:
        raise HTTPException(404)
    response = RedirectResponse(_safe(back), 303)
    response.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR, samesite="lax", httponly=True)
    return response


def switch_view(request: Request, visitor: Known, form: Signed) -> Response:
    """Turn one switch of the view over and lead back; with a script, the browser does it."""
    fields = dict(form)
    on = view_of(request).switches ^ ({fields.get("switch", "")} & set(SWITCHES))
    response = RedirectResponse(_safe(fields.get("back", "/")), 303)
    response.set_cookie(VIEW_COOKIE, ".".join(sorted(on)), max_age=_YEAR, samesite="lax")
    return response


def static(request: Request, version: str, name: Annotated[str, Path(max_length=100)]) -> Response:
    """Give a style sheet, script or font; the version in its address makes it immutable."""
    asset = assets().get(name)
    if asset is None:
        raise HTTPException(404)
    return Response(
        asset.content,
        media_type=asset.type,
        headers={"Cache-Control": f"public, max-age={_YEAR}, immutable"},
    )


def _safe(path: str) -> str:
    return path if is_own_path(path) else "/"


def _refused(request: Request, error: Exception) -> Response:
    """Answer what the visitor, or the visitor's form, did wrong."""
    if isinstance(error, AccessDenied):
        return _error_page(request, _DENIED.get(error.code, 410), f"denied.{error.code}", error)
    if isinstance(error, BallotError):
        return _error_page(request, 422, "error.ballot", error)
    if isinstance(error, ConflictError):
        return _error_page(request, 409, "error.conflict", error)
    status = 404 if isinstance(error, DataError) else 400
    return _error_page(request, status, f"error.{status}", error)


def _failed(request: Request, error: Exception) -> Response:
    """Answer a request that is none of ours: unknown page, wrong method, too many, too large."""
    status = error.status_code if isinstance(error, AnyHTTPException) else 422
    key = f"error.{status}" if status in {403, 404, 429} else "error.400"
    response = _error_page(request, status, key, error)
    if isinstance(error, AnyHTTPException):
        response.headers.update(error.headers or {})
    return response


def _error_page(request: Request, status: int, key: str, error: Exception) -> Response:
    if rating.wants_json(request):
        word = error.code if isinstance(error, AccessDenied) else http.HTTPStatus(status).phrase
        return JSONResponse({"error": word, "detail": str(error)}, status_code=status)
    return page(request, "error.html", status=status, key=key, path="/")
