"""A browser, and the page open in it, for the tests that need one; each says at which `address`."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def browser():
    from tests.web_page import CHROMIUM, playwright

    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """The open page; what it requested of other hosts and what its scripts complained about are checked afterwards."""
    from tests.web_page import DESKTOP, PATIENCE

    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page, requested, complaints = context.new_page(), [], []
    page.on("request", lambda sent: requested.append(sent.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#picker .drop")
    yield page
    context.close()
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == [] and complaints == []
