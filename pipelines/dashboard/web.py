"""The application: what may be asked, by whom, and what every answer carries.

Starlette and Jinja, rendered on the server: the smallest well-kept pair that gives typed requests,
threads for blocking queries and a test client. What models wrote passes through autoescaping only.
Loopback is no protection by itself: any page in the same browser can send requests there. So the
Host must be ours (no DNS rebinding), a mark must come from our own page (no forgery), and the
policy on every answer lets no script run but our own file and no request leave for elsewhere.
"""

import ipaddress
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.dashboard.browse import Browser
from pipelines.dashboard.catalogue import Catalogue
from pipelines.dashboard.live import Watch
from pipelines.dashboard.runs import run_folders

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
REFRESH_S = 5.0


class Shelf:
    """The runs under one folder, each with its browser and its watch, opened when first asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._browsers: dict[Path, Browser] = {}
        self._watches: dict[Path, Watch] = {}
        self._looked: dict[Path, float] = {}
        self._lock = threading.Lock()

    def folders(self) -> dict[str, Path]:
        """Runs by name."""
        return run_folders(self.root)

    def browser(self, run: Path) -> Browser:
        """The run's browser; what is new in the run is being indexed from now on."""
        with self._lock:
            if run not in self._browsers:
                self._browsers[run] = Browser(Catalogue(run))
            browser = self._browsers[run]
            due = time.monotonic() - self._looked.get(run, -REFRESH_S) >= REFRESH_S
            self._looked[run] = time.monotonic() if due else self._looked[run]
        if due:
            worker = threading.Thread(target=browser.refresh, daemon=True)
            worker.start()
            worker.join(1.0)  # a small run is ready at once; a large one goes on behind the page
        return browser

    def watch(self, run: Path) -> Watch:
        """The run's watch."""
        with self._lock:
            return self._watches.setdefault(run, Watch(run))


def make_app(root: Path, hosts: frozenset[str] = LOOPBACK) -> "Starlette":
    """The application over the runs in `root`, answering requests for these host names.

    Raises InputError when there is no such folder.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    from pipelines.dashboard.pages import ROUTES, failed, missing

    run_folders(root)
    app = Starlette(
        routes=[
            *(Route(path, page, methods=methods) for path, page, methods in ROUTES),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard(hosts))],
        exception_handlers={404: missing, 500: failed},
    )
    app.state.shelf = Shelf(root)
    return app


Next = Callable[["Request"], Awaitable["Response"]]


def _guard(hosts: frozenset[str]) -> Any:
    from starlette.responses import PlainTextResponse

    async def guard(request: "Request", call_next: Next) -> "Response":
        if not host_is_ours(request.headers.get("host", ""), hosts):
            answer: Response = PlainTextResponse("This host name is not served here.", 421)
        elif request.method not in ("GET", "HEAD") and not is_own(request.headers):
            answer = PlainTextResponse("This request did not come from the dashboard.", 403)
        else:
            answer = await call_next(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    return guard


def host_is_ours(header: str, hosts: frozenset[str]) -> bool:
    """Whether the Host header names us.

    An address in figures does, where we listen beyond loopback: only names can be made to point
    elsewhere.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return False
    if name in hosts or name in LOOPBACK:
        return True
    if hosts <= LOOPBACK:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_own(headers: Any) -> bool:
    """Whether a browser says that a request came from a page of ours.

    Browsers send Sec-Fetch-Site and Origin themselves; a page cannot forge either.
    """
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("origin")
    if origin is None:
        return bool(site == "same-origin")
    return bool(urlsplit(origin).netloc == headers.get("host", ""))
