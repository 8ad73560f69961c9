"""The system's Chromium, for the tests that look at pages with it."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# As root in a container, with no network, and with nothing that calls home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launched() -> Iterator[Browser]:
    """Yield a headless browser; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install Debian's package chromium")
    expect.set_options(timeout=30_000)  # as all other waits: a busy machine is slow
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=120_000)
        yield found
        found.close()
