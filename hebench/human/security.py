"""What stands between the network and the pages: headers, sizes, patience, forms that are ours.

Every answer carries the headers of `HEADERS`. A body that is announced or grows larger than
`MAX_BODY` is refused before it is read further, and one that dribbles in for longer than
`BODY_SECONDS` is given up. A form counts only with a token that `form_token` made for the same
browser, and only from a page of this server.

    >>> token = form_token(b"key", "session")
    >>> is_form_token(b"key", "session", token), is_form_token(b"key", "other", token)
    (True, False)
"""

import asyncio
import hashlib
import hmac
import secrets
from urllib.parse import parse_qsl, urlsplit

from fastapi import HTTPException, Request
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 2_000_000  # bytes: a corrected text of the longest kind, as a form sends it
MAX_FIELDS = 2_000
BODY_SECONDS = 20.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), browsing-topics=()",
}

Form = list[tuple[str, str]]


class Guard:
    """Adds the headers, and bounds a request's body in size and in time."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY:
            refusal = PlainTextResponse("Too large.", 413, headers={"Connection": "close"})
            await refusal(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)


async def read_form(request: Request) -> Form:
    """Return the fields of a form in order.

    Raises HTTPException: 413 for too large a body, 408 for too slow a one, 415 for another type
    of content, 422 for too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected a form")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request)
    except TimeoutError as error:
        raise HTTPException(408, "the form took too long", {"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the form broke off") from error
    try:
        return parse_qsl(
            body.decode("utf-8", errors="replace"),
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise HTTPException(422, f"expected at most {MAX_FIELDS} fields") from error


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, "the form is too large", {"Connection": "close"})
    return bytes(body)


def form_token(key: bytes, secret: str) -> str:
    """Return a token for forms of the browser that holds `secret`, different each time.

    Different, so that a compressed page's length says nothing about it.
    """
    nonce = secrets.token_hex(8)
    return f"{nonce}.{_signature(key, secret, nonce)}"


def is_form_token(key: bytes, secret: str, token: str) -> bool:
    """Return whether `form_token` made this token for this secret."""
    nonce, _, signature = token.partition(".")
    return hmac.compare_digest(
        _signature(key, secret, nonce).encode(), signature.encode("utf-8", "replace")
    )


def _signature(key: bytes, secret: str, nonce: str) -> str:
    message = f"form\0{secret}\0{nonce}".encode("utf-8", "replace")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


def is_from_elsewhere(request: Request) -> bool:
    """Return whether a browser says that another site's page sent this request."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")


def is_own_path(path: str) -> bool:
    """Return whether a path leads to a page of this server, and nowhere else."""
    return (
        path.startswith("/")
        and not path.startswith("//")
        and "\\" not in path
        and path.isprintable()
    )
