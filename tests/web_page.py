"""What the tests share that use the web page in a browser."""

from __future__ import annotations

import shutil

import pytest

from tests.web_server import picture

pytest.importorskip("gradio", reason="gradio is not installed (the extra `web`)")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the extra `browser`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
PATIENCE = 120_000  # ms that a busy machine may take
playwright.expect.set_options(timeout=PATIENCE)


def choose(page, data: bytes | None = None, name: str = "a.png") -> None:
    """Choose a file, and wait for nothing."""
    kind = "video/mp4" if name.endswith(".mp4") else "image/png"
    page.set_input_files("#picker input", {"name": name, "mimeType": kind, "buffer": data or picture()})


def drop(page, data: bytes | None = None, name: str = "a.png") -> None:
    """Choose a file and wait for the answer."""
    choose(page, data, name)
    expect_message(page, name)


def expect_message(page, text: str) -> None:
    """Wait until the answer's message holds the text."""
    playwright.expect(page.locator("#viewer .told")).to_contain_text(text)


def segments(page) -> list[str]:
    return page.locator("#viewer .segments button").all_inner_texts()
