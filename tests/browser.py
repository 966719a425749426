"""A headless Chromium for tests of pages, without access to other machines."""

import contextlib
import os
import shutil
from urllib.parse import urlsplit

import pytest

LOCAL = {"127.0.0.1", "localhost", "", None}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing(what):
    """Skip the test on a user's machine; fail in CI, where everything must be installed."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} is missing, and CI never skips this test.")
    pytest.skip(f"{what} is missing; the page was not opened in a browser.")


@contextlib.contextmanager
def chromium():
    """Yield a browser. OPENIMAGER_CHROMIUM names the program if Playwright has none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright (pip install playwright)")
    names = [os.environ.get("OPENIMAGER_CHROMIUM", ""), "chromium", "chromium-browser"]
    names += ["google-chrome", "chrome", "msedge"]
    found = next((path for path in map(shutil.which, filter(None, names)) if path), None)
    if not found:
        missing("A Chromium (such as Debian's package chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


def new_page(browser, **options):
    """Return a page; its list `outside` has all requests to other machines."""
    page = browser.new_page(**options)
    page.outside = []
    page.on("request", lambda request: _note(page.outside, request.url))
    return page


def _note(outside, url):
    if not url.startswith(("data:", "blob:")) and urlsplit(url).hostname not in LOCAL:
        outside.append(url)
