"""What each address shows: a template, and what it is filled with; queries are elsewhere."""

import html
import shlex
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pipelines import charts, findings
from pipelines.dashboard import alike
from pipelines.dashboard.browse import PAGE_SIZE, Browser, Wish
from pipelines.dashboard.runs import is_live, summary
from pipelines.dashboard.search import marked
from pipelines.marks import OPINIONS, set_mark
from pipelines.report import distance, figure, percent
from pipelines.run_view import RunView
from pipelines.verdict import GATE_IN_WORDS, verdict
from usersim.errors import RealchatError
from usersim.progress import duration

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.requests import Request
    from starlette.responses import Response

Page = Callable[["Request"], "Response"]
REPORT_CSS = Path(__file__).parents[1] / "report.css"


@lru_cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([Path(__file__).with_name("templates"), REPORT_CSS.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "percent": percent,
        "distance": distance,
        "plain": charts.plain_words,
        "duration": duration,
        "ago": ago,
        "segment": lambda text: quote(text, safe=""),
    }
    environment.globals |= {"marked": marked, "opinions": OPINIONS, "gate_words": GATE_IN_WORDS}
    return environment


def _page(template: str, status: int = 200, **context: Any) -> "Response":
    from starlette.responses import HTMLResponse

    text = _environment().get_template(template).render(context)
    # A record may hold half of a surrogate pair, which no encoding can carry.
    return HTMLResponse(text.encode("utf-8", "replace"), status)


def ago(then: float) -> str:
    """How long ago a time was, for people."""
    seconds = max(0.0, time.time() - then)
    if seconds < 90:
        return "just now"
    if seconds < 48 * 3600:
        return f"{duration(seconds // 60 * 60).removesuffix(' 00 s')} ago"
    return f"{seconds / 86400:.0f} days ago"


def typed(folder: Path) -> str:
    """A run's folder as it is typed into a shell: its name alone would be another folder."""
    return shlex.quote(str(folder))


def _run(request: "Request") -> tuple[str, Path]:
    from starlette.exceptions import HTTPException

    name = request.path_params["run"]
    folder = request.app.state.shelf.folders().get(name)
    if folder is None:
        raise HTTPException(404, f"there is no run {name}")
    return name, folder


def runs(request: "Request") -> "Response":
    """Every run and how it stands."""
    shelf = request.app.state.shelf
    found = [summary(name, path) for name, path in shelf.folders().items()]
    found.sort(key=lambda run: (not run.live, -run.changed))
    return _page("runs.html", runs=found, root=shelf.root, active="runs")


def overview(request: "Request") -> "Response":
    """One run: its verdict, its figures, and where to go from here."""
    name, folder = _run(request)
    view = RunView.of_figures(folder)
    surface = view.table("report", "surface")
    _, simulated = findings.funnels(view)
    return _page(
        "run.html",
        run=name,
        folder=typed(folder),
        active="overview",
        summary=summary(name, folder),
        view=view,
        verdict=verdict(view, surface),
        links=_links(name, view),
        distances=findings.likeness(surface)[1],
        why=findings.may_publish(view)[1],
        gate=findings.gate(view),
        charts=_charts(view, simulated),
        has_report=(folder / "report.html").is_file(),
    )


def _links(name: str, view: RunView) -> list[tuple[str, str] | None]:
    """Where to look further, beside each answer."""
    at = f"/runs/{quote(name, safe='')}"
    kept = "?outcome=kept" if view.number("curate", "kept") is not None else ""
    report = (f"{at}/report", "every distribution")
    return [
        (f"{at}/conversations{kept}", "look at them"),
        report if (view.root / "report.html").is_file() else None,
        (f"{at}/sides", "beside what was kept"),
        None,
    ]


def _charts(view: RunView, funnel: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    from markupsafe import Markup

    drawn: list[tuple[str, Any]] = []
    if funnel:
        drawn.append(("What went in, what was left", Markup(charts.waterfall(funnel))))  # noqa: S704
    if stops := view.counts("simulate", "stop_reasons"):
        svg = Markup(charts.bars(stops, "conversations"))  # noqa: S704
        drawn.append(("Why conversations stopped", svg))
    return drawn


def conversations(request: "Request") -> "Response":
    """The conversations of a run that a wish asks for."""
    name, folder = _run(request)
    wish = Wish.of(request.query_params)
    browser: Browser = request.app.state.shelf.browser(folder)
    return _page(
        "conversations.html",
        run=name,
        folder=typed(folder),
        active="conversations",
        wish=wish,
        found=browser.find(wish),
        facets=browser.facets(),
        scores=browser.score_names,
        total=browser.total,
        marks=browser.marks(),
        catalogue=browser.catalogue,
        page_size=PAGE_SIZE,
        live=is_live(folder),
    )


def conversation(request: "Request") -> "Response":
    """One conversation, whole, with its fate, its lineage and the way to its neighbours."""
    from starlette.exceptions import HTTPException

    name, folder = _run(request)
    wish = Wish.of(request.query_params)
    browser: Browser = request.app.state.shelf.browser(folder)
    opened = browser.open(request.path_params["id"])
    if opened is None:
        raise HTTPException(404, "there is no such conversation in this run")
    before, after = _neighbours(browser, wish, opened.row["id"])
    twin = browser.open(opened.row["twin"]) if opened.row.get("twin") else None
    return _page(
        "conversation.html",
        run=name,
        folder=typed(folder),
        active="conversations",
        wish=wish,
        opened=opened,
        before=before,
        after=after,
        twin=twin,
    )


def _neighbours(browser: Browser, wish: Wish, identity: str) -> tuple[str | None, str | None]:
    """Ids before and after it on the page that it was opened from."""
    ids = [row["id"] for row in browser.find(wish).rows]
    if identity not in ids:
        return None, None
    at = ids.index(identity)
    return (ids[at - 1] if at else None), (ids[at + 1] if at + 1 < len(ids) else None)


async def mark(request: "Request") -> "Response":
    """Save what a person thinks of a conversation."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import PlainTextResponse, RedirectResponse

    _, folder = _run(request)
    async with request.form(max_files=0, max_fields=5, max_part_size=10_000) as form:
        sent = {key: str(form.get(key, "")) for key in ("id", "mark", "why", "back")}
    browser: Browser = request.app.state.shelf.browser(folder)
    if await run_in_threadpool(browser.open, sent["id"]) is None:
        return PlainTextResponse("There is no such conversation.", 404)
    try:
        await run_in_threadpool(set_mark, folder, sent["id"], sent["mark"], sent["why"])
    except RealchatError as error:
        return PlainTextResponse(str(error), 400)
    # Only a path of this site: not `//elsewhere`, and not `/\elsewhere`, which browsers read so.
    back = sent["back"]
    inside = back.startswith("/") and not back.startswith(("//", "/\\"))
    return RedirectResponse(back if inside else "/", 303)


def sides(request: "Request") -> "Response":
    """Rejected conversations beside kept ones."""
    name, folder = _run(request)
    wish = Wish.of(request.query_params)
    browser: Browser = request.app.state.shelf.browser(folder)
    return _page(
        "sides.html",
        run=name,
        folder=typed(folder),
        active="sides",
        wish=wish,
        pairs=alike.twins(browser, wish),
        reasons=browser.facets().get("reason", []),
    )


def duplicates(request: "Request") -> "Response":
    """Clusters of near-duplicates, with the words that differ."""
    name, folder = _run(request)
    wish = Wish.of(request.query_params)
    browser: Browser = request.app.state.shelf.browser(folder)
    clusters, total = browser.clusters(wish.page)
    ids = [i for c in clusters for i in (c["twin"], *c["members"])]
    rows = browser.openers_of(ids)
    shown = [
        {
            "kept": rows.get(c["twin"]),
            "size": c["size"],
            "members": [_beside(rows.get(c["twin"]), rows[i]) for i in c["members"] if i in rows],
        }
        for c in clusters
    ]
    return _page(
        "duplicates.html",
        run=name,
        folder=typed(folder),
        active="duplicates",
        wish=wish,
        clusters=shown,
        total=total,
    )


def _beside(kept: dict[str, Any] | None, row: dict[str, Any]) -> dict[str, Any]:
    _, words = alike.differing((kept or {}).get("opener") or "", row.get("opener") or "")
    return {"row": row, "words": words}


def live(request: "Request") -> "Response":
    """A run while it generates; `?part=1` is the part that the page fetches again and again."""
    name, folder = _run(request)
    moment = request.app.state.shelf.watch(folder).look(time.monotonic())
    template = "moment.html" if request.query_params.get("part") else "live.html"
    return _page(
        template,
        run=name,
        folder=typed(folder),
        active="live",
        moment=moment,
        running=is_live(folder),
    )


def answers(request: "Request") -> "Response":
    """Two runs' answers to the same openers, side by side."""
    shelf = request.app.state.shelf
    folders = shelf.folders()
    chosen = [request.query_params.get(key, "") for key in ("a", "b")]
    pairs: list[Any] = []
    total = 0
    wish = Wish.of(request.query_params)
    if all(name in folders for name in chosen):
        browsers = [shelf.browser(folders[name]) for name in chosen]
        pairs, total = alike.same_openers(browsers[0], browsers[1], wish.page)
    return _page(
        "answers.html",
        active="answers",
        chosen=chosen,
        names=list(folders),
        pairs=[(a, b, alike.differing(*(_answer(o) for o in (a, b)))) for a, b in pairs],
        total=total,
        wish=wish,
    )


def _answer(opened: Any) -> str:
    return next((m["content"] for m in opened.messages if m["role"] == "assistant"), "")


def compare(request: "Request") -> "Response":
    """Two runs' figures side by side, the differences marked that are more than chance."""
    from pipelines.compare import compare_runs
    from pipelines.compare_page import body

    folders = request.app.state.shelf.folders()
    chosen = [request.query_params.get(key, "") for key in ("a", "b")]
    both = all(name in folders for name in chosen)
    found = compare_runs(*(folders[name] for name in chosen)) if both else None
    shown = body(found) if found else None
    return _page("compare.html", active="compare", chosen=chosen, names=list(folders), shown=shown)


def report(request: "Request") -> "Response":
    """The run's report.html, as it is."""
    from starlette.exceptions import HTTPException
    from starlette.responses import FileResponse

    from pipelines.dashboard.web import REPORT_POLICY

    _, folder = _run(request)
    if not (folder / "report.html").is_file():
        report = f"realchat report --run {typed(folder)}"
        raise HTTPException(404, f"this run has no report yet; `{report}` writes it")
    headers = {"Content-Security-Policy": REPORT_POLICY}
    return FileResponse(folder / "report.html", media_type="text/html", headers=headers)


def stylesheet(_: "Request") -> "Response":
    """The report's style, which the dashboard shares."""
    from starlette.responses import FileResponse

    return FileResponse(REPORT_CSS, media_type="text/css")


def missing(_: "Request", error: Exception) -> "Response":
    """What there is no page for."""
    return _page("error.html", 404, active="", text=str(getattr(error, "detail", "not found")))


def failed(_: "Request", error: Exception) -> "Response":
    """What went wrong, without a traceback."""
    text = str(error) if isinstance(error, RealchatError) else f"{type(error).__name__}: {error}"
    return _page("error.html", 500, active="", text=html.unescape(text))


ROUTES: tuple[tuple[str, Any, list[str]], ...] = (
    ("/", runs, ["GET"]),
    ("/answers", answers, ["GET"]),
    ("/compare", compare, ["GET"]),
    ("/report.css", stylesheet, ["GET"]),
    ("/runs/{run}", overview, ["GET"]),
    ("/runs/{run}/conversations", conversations, ["GET"]),
    ("/runs/{run}/conversations/{id}", conversation, ["GET"]),
    ("/runs/{run}/sides", sides, ["GET"]),
    ("/runs/{run}/duplicates", duplicates, ["GET"]),
    ("/runs/{run}/live", live, ["GET"]),
    ("/runs/{run}/report", report, ["GET"]),
    ("/runs/{run}/marks", mark, ["POST"]),
)
