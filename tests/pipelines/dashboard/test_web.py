"""Who may ask, what every answer carries, and that nobody's words are anything but text."""

import re
from html.parser import HTMLParser

import pytest
from looked_at import XSS, client, marked_run
from made_run import make_run

from pipelines.dashboard.web import LOOPBACK, host_is_ours, is_own
from pipelines.marks import read_marks
from usersim.errors import InputError

OWN = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8421"}
TAGS = {"html", "head", "meta", "title", "link", "script", "body", "header", "a", "strong", "nav",
        "main", "h1", "h2", "h3", "p", "div", "span", "ol", "ul", "li", "form", "input", "button",
        "label", "select", "option", "details", "summary", "kbd", "section", "article", "aside",
        "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "small", "mark", "dl", "dt",
        "dd", "figure", "figcaption", "svg", "g", "path", "text", "rect", "line", "defs",
        "clippath", "br", "noscript", "progress", "meter"}  # fmt: skip
PAGES = [
    "/", "/answers?a=made&b=made", "/runs/made", "/runs/made/conversations?min_rounds=0&q=script",
    "/runs/made/conversations?sort=-", "/runs/made/conversations/x-0", "/runs/made/sides",
    "/runs/made/conversations/x-4?q=x", "/runs/made/duplicates", "/runs/made/live",
    "/runs/made/conversations/simulated-0240", "/runs/<script>alert(1)</script>",
    '/runs/made/conversations?q="><script>alert(1)</script>&reason=<b>',
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    marked_run(root / "made")
    opened = client(root)
    opened.get("/runs/made/conversations")
    return opened


class Tags(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("path", PAGES)
def test_words_of_models_and_addresses_are_text(browser, path):
    page = Tags(browser.get(path).text)
    assert page.tags <= TAGS
    assert [a for a in page.attributes if a[1].startswith("on") or a[1] == "style"] == []
    scripts = [value for tag, key, value in page.attributes if tag == "script" and key == "src"]
    assert scripts == ["/static/app.js"]
    outside = [v for _, k, v in page.attributes if k in ("href", "src", "action")
               and not v.startswith("/") and v != ""]  # fmt: skip
    assert [v for v in outside if not v.startswith("#")] == []


@pytest.mark.parametrize("number", range(len(XSS) - 1))
def test_hostile_words_are_shown_as_they_are(browser, number):
    page = Tags(browser.get(f"/runs/made/conversations/x-{number}").text)
    assert XSS[number] in page.text


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_has_a_policy_that_lets_nothing_out(browser, path):
    headers = browser.get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "ours"),
    [("127.0.0.1:8421", True), ("localhost", True), ("[::1]:80", True), ("evil.example", False),
     ("127.0.0.1.evil.example", False), ("", False), ("10.0.0.7:80", False), ("[", False)],
)  # fmt: skip
def test_only_loopback_names_are_served(browser, host, ours):
    assert host_is_ours(host, LOOPBACK) is ours
    assert browser.get("/", headers={"host": host}).status_code == (200 if ours else 421)


def test_beyond_loopback_an_address_may_be_asked_for_but_no_other_name():
    hosts = LOOPBACK | {"0.0.0.0", "gpu7"}
    found = [host_is_ours(h, hosts) for h in ("10.0.0.7:8421", "gpu7:8421", "evil.example")]
    assert found == [True, True, False]


def mark(browser, headers, **form):
    sent = {"id": "x-1", "mark": "bad", "why": "it shouts", "back": "/runs/made", **form}
    return browser.post("/runs/made/marks", data=sent, headers=headers)


def test_a_mark_from_our_own_page_is_kept(browser):
    answer = mark(browser, OWN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/made")
    root = browser.app.state.shelf.root
    assert (read_marks(root / "made")["x-1"].mark, read_marks(root / "made")["x-1"].why) == (
        "bad",
        "it shouts",
    )
    listed = browser.get("/runs/made/conversations?mark=bad").text
    assert "it shouts" in listed
    assert re.search(r'id="count">1 of', listed)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "https://evil.example"},
    ],
)
def test_a_mark_from_elsewhere_is_refused(browser, headers):
    assert not is_own(headers | {"host": "127.0.0.1:8421"})
    assert mark(browser, headers, id="x-2").status_code == 403
    assert "x-2" not in read_marks(browser.app.state.shelf.root / "made")


@pytest.mark.parametrize("form", [{"mark": "splendid"}, {"id": "nobody"}])
def test_a_mark_of_nothing_is_refused(browser, form):
    assert mark(browser, OWN, **form).status_code in (400, 404)


@pytest.mark.parametrize("back", ["//evil.example", "/\\evil.example", "https://evil.example", ""])
def test_a_mark_leads_nowhere_else(browser, back):
    assert mark(browser, OWN, back=back).headers["location"] == "/"


@pytest.mark.parametrize("path", ["/runs/../made", "/runs/..%2f..%2fetc", "/static/../web.py",
                                  "/runs/made/conversations/..%2f..%2frecipe.yaml"])  # fmt: skip
def test_no_path_leads_out_of_the_runs(browser, path):
    assert browser.get(path).status_code == 404


def test_an_empty_folder_says_what_to_run(tmp_path):
    page = client(tmp_path).get("/")
    assert page.status_code == 200
    assert "<pre>realchat run</pre>" in page.text


def test_commands_name_the_folder_that_is_looked_at(tmp_path):
    """`--run NAME` is another folder, and no `--run` at all is the demo."""
    run = tmp_path / "some runs" / "new"
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text("name: new\n")
    asked, meant = client(run.parent), f"--run '{run}'"
    for path in ("", "/conversations", "/live", "/sides", "/duplicates", "/report"):
        shown = Tags(asked.get(f"/runs/new{path}").text).text
        commands = re.findall(r"realchat (?:simulate|curate|report)\b[^.;\n]*", shown)
        assert commands, path
        assert all(meant in command for command in commands), commands


@pytest.mark.parametrize("path", PAGES)
def test_a_row_that_a_key_chooses_is_one_that_enter_opens(browser, path):
    text = browser.get(path).text
    rows = re.findall(r"<(\w+)[^>]*\bdata-row\b([^>]*)>", text)
    assert rows or path != "/"
    assert all(tag == "a" and "href=" in rest for tag, rest in rows)


def test_a_folder_that_is_not_there_is_an_error_with_advice(tmp_path):
    with pytest.raises(InputError, match="realchat run"):
        client(tmp_path / "nowhere")


def test_a_run_itself_can_be_looked_at(tmp_path):
    make_run(tmp_path / "one")
    assert "/runs/one" in client(tmp_path / "one").get("/").text


def test_a_broken_run_is_named_and_the_others_are_shown(tmp_path):
    make_run(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.json").write_text("{")
    text = client(tmp_path).get("/").text
    assert "metrics.json could not be read" in text
    assert "/runs/good" in text


def test_the_report_comes_with_a_policy_of_its_own(browser):
    root = browser.app.state.shelf.root
    (root / "made" / "report.html").write_text("<!doctype html><p>fine")
    policy = browser.get("/runs/made/report").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "script" not in policy
