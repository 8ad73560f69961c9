"""A browser without JavaScript, as far as tests need one: it follows links and fills forms."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from hebench.human.access import invite
from hebench.human.app import create_app
from hebench.human.database import Database

# The store's own tests run on both engines; of the pages, SQLite in the fast suite.
ENGINES = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

Fields = list[tuple[str, str]]


class _Forms(HTMLParser):
    """The forms of a page: (action, fields that are sent without a choice)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, Fields]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append((given.get("action", ""), []))
        sent = given.get("type") == "hidden" or "checked" in given
        if tag == "input" and self.found and sent:
            self.found[-1][1].append((given["name"], given["value"]))


class Guest:
    """One browser: it remembers its cookies and all that it was ever sent."""

    def __init__(self, app: FastAPI, *, language: str = "he", scheme: str = "http") -> None:
        self.client = TestClient(app, base_url=f"{scheme}://localhost")
        self.client.headers["accept-language"] = language
        self.received: list[str] = []
        self.page = ""

    def get(self, path: str, **options: Any) -> Any:
        return self._took(self.client.get(path, **options))

    def post(self, path: str, fields: Any, **options: Any) -> Any:
        return self._took(self.client.post(path, data=fields, **options))

    def form(self, action: str) -> Fields:
        """The fields of a form on the present page."""
        parser = _Forms()
        parser.feed(self.page)
        for known, fields in parser.found:
            if known == action:
                return fields
        raise AssertionError(f"no form {action!r} among {[known for known, _ in parser.found]}")

    def submit(self, action: str, *, to: str | None = None, **chosen: str) -> Any:
        """Send a form of the present page with some choices."""
        fields = [pair for pair in self.form(action) if pair[0] not in chosen]
        names = {name.replace("__", "."): value for name, value in chosen.items()}
        return self.post(to or action, dict([*fields, *names.items()]))

    def enter(self, token: str) -> Any:
        """Follow a link and agree."""
        self.get(f"/rate/{token}")
        return self.submit("", to=f"/rate/{token}")

    def text(self) -> str:
        """The words of the present page."""
        return " ".join(re.sub(r"<[^>]+>", " ", self.page).split())

    def _took(self, response: Any) -> Any:
        parts = [f"{key}: {value}" for key, value in response.headers.items()]
        self.received += [str(response.url), *parts, response.text]
        for earlier in response.history:
            self.received += [f"{key}: {value}" for key, value in earlier.headers.items()]
        if "text/html" in response.headers.get("content-type", ""):
            self.page = response.text
        return response


def app_for(database: Database, study: str = "summaries-1") -> FastAPI:
    return create_app(database, study)


def guest(database: Database, app: FastAPI, *, role: Any = "rater", **options: Any) -> Guest:
    """A browser that has come in by a link of its own."""
    study = app.state.site.study.name
    found = Guest(app, **options)
    found.enter(invite(database, study, role=role).token)
    return found
