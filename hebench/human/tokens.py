"""The tokens of invite links: random, bound to a study, signed with its secret.

A token is 36 bytes in URL-safe base64: the study's number (4), random bytes (16), and a truncated
HMAC-SHA256 of both (16). A guessed or changed one is refused before it is looked up.

    >>> is_signed(new_token(1, secret), secret)
    True
"""

import base64
import binascii
import hashlib
import hmac
import secrets

_NUMBER, _SALT, _MARK = 4, 16, 16  # bytes


def new_token(study: int, secret: str) -> str:
    """Return a new token for a study. secret: hexadecimal."""
    body = study.to_bytes(_NUMBER, "big") + secrets.token_bytes(_SALT)
    return base64.urlsafe_b64encode(body + _mark(secret, body)).decode("ascii")


def claimed_study(token: str) -> int | None:
    """Return the study that a token says it is for, None for what is no token."""
    raw = _bytes(token)
    return int.from_bytes(raw[:_NUMBER], "big") if raw else None


def is_signed(token: str, secret: str) -> bool:
    """Return whether a token was made with this secret."""
    raw = _bytes(token)
    body, mark = raw[: _NUMBER + _SALT], raw[_NUMBER + _SALT :]
    return bool(raw) and hmac.compare_digest(mark, _mark(secret, body))


def fingerprint(token: str) -> str:
    """Return what is stored of a link's or a session's token: its SHA-256, hexadecimal.

    No salt and no stretching: tokens have 128 random bits and more.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _bytes(token: str) -> bytes:
    """Return a token's bytes, none for what is no token."""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if len(raw) == _NUMBER + _SALT + _MARK else b""


def _mark(secret: str, body: bytes) -> bytes:
    message = b"hebench invite " + body
    return hmac.new(bytes.fromhex(secret), message, hashlib.sha256).digest()[:_MARK]
