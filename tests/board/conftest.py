"""A built site of made-up records, and a real Chromium to look at it with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from hebench.board.build import build_site
from tests.board.made import made_board


@pytest.fixture(scope="session")
def leaderboard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard folder with models, checkpoints, baselines, two tracks and a hostile model."""
    return made_board(tmp_path_factory.mktemp("made") / "leaderboard", hostile=True)


@pytest.fixture(scope="session")
def site(leaderboard: Path) -> Path:
    """The site of that folder."""
    return build_site(leaderboard, leaderboard.parent / "site")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile, wide."""
    found = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    yield found
    found.close()


@pytest.fixture
def tab(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test on a script error or a message of the security policy."""
    found = context.new_page()
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on(
        "console",
        lambda message: errors.append(message.text) if message.type == "error" else None,
    )
    yield found
    assert errors == []
