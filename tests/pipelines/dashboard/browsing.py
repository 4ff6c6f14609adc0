"""A real browser for tests: the machine's Chromium, held to this machine."""

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
LOCAL = ("http://127.0.0.1", "file://", "data:", "about:", "blob:")


def chromium() -> str:
    """The path of a Chromium; skips the test where the machine has none."""
    asked = os.environ.get("REALCHAT_CHROMIUM", "")
    found = next((p for name in (asked, *NAMES) if name and (p := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or REALCHAT_CHROMIUM")
    return found


@contextmanager
def served(root: Path):
    """The dashboard over `root` in a thread; yields its address."""
    import uvicorn

    from pipelines.dashboard.web import make_app

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(make_app(root), log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def opened_browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A tab that notes every complaint of the page and every request that it makes."""

    def __init__(self, browser, **options) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._asked)
        self.context.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, message) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, dialog) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def press(self, key: str) -> None:
        """A key, when the page's script is there to hear it: it runs before the load event."""
        self.page.wait_for_load_state("load")
        self.page.keyboard.press(key)

    def shoot(self, name: str) -> None:
        """Keep a picture where REALCHAT_SCREENSHOTS says; nowhere without it."""
        if folder := os.environ.get("REALCHAT_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def close(self) -> None:
        """Nothing was complained about, and nothing left the machine."""
        self.context.close()
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(LOCAL)] == []


def eventually(true, seconds: float = 20.0) -> None:
    """Wait until `true()`; polling is what a live page does too."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.05)
