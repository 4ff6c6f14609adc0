"""The dashboard and the report in a real Chromium: what a person does, and nothing else happens.

Every tab is held to the end to three things: no complaint in the console, no dialog, and no request
that leaves the machine. REALCHAT_SCREENSHOTS names a folder for pictures.
"""

import shutil
import sqlite3

import pytest
from browsing import Visit, eventually, opened_browser, served
from looked_at import XSS, marked_run
from made_run import make_run
from playwright.sync_api import expect

from pipelines.marks import read_marks
from pipelines.report import write_report
from usersim.conversation import Conversation, Message
from usersim.files import write_conversations, write_json, write_text

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    marked_run(folder / "made")
    shutil.copytree(folder / "made", folder / "other")
    first = folder / "other" / "conversations" / "part-00002.parquet"
    said = (Message("user", "please mend my rusty bicycle chain today"),
            Message("assistant", "quite another answer to that"))  # fmt: skip
    write_conversations(first, [Conversation(id="y", messages=said, assistant_model="other")])
    write_report(folder / "made")
    return folder


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(root):
    with served(root) as url:
        yield url


@pytest.fixture
def visit(browser):
    opened = Visit(browser)
    yield opened
    opened.close()


def test_from_the_list_of_runs_to_a_marked_conversation_by_keyboard_alone(visit, address, root):
    page = visit.page
    page.goto(address)
    visit.shoot("runs")
    page.get_by_role("link", name="made", exact=True).click()
    page.wait_for_selector("svg.chart")
    visit.shoot("overview")
    page.get_by_role("link", name="Conversations", exact=True).click()
    page.wait_for_selector("[data-row]")
    visit.press("/")
    page.keyboard.type("mend bicycle chain")
    visit.press("Enter")
    page.wait_for_url("**q=mend**")
    assert page.locator("#count").inner_text().startswith("2 of 249")
    visit.shoot("search")
    visit.press("j")
    visit.press("Enter")
    page.wait_for_selector(".thread mark")
    here = page.url
    visit.press("b")
    eventually(lambda: "x-90" in read_marks(root / "made"))
    page.wait_for_selector(".mark-bad")
    assert page.url == here, "the address is the same, and can be kept"
    visit.shoot("conversation")
    visit.press("n")
    page.wait_for_url("**/x-91**")
    visit.press("u")
    page.wait_for_selector("#count")
    assert "q=mend" in page.url


def test_a_filter_is_applied_when_it_is_chosen(visit, address):
    visit.page.goto(f"{address}/runs/made/conversations")
    visit.page.select_option("[name=outcome]", "rejected")
    visit.page.wait_for_url("**outcome=rejected**")
    assert visit.page.locator("#count").inner_text().startswith("2 of")


def test_hostile_words_are_text_on_every_page(visit, address):
    for number in range(len(XSS)):
        visit.page.goto(f"{address}/runs/made/conversations/x-{number}")
        assert visit.page.locator(".thread script, .thread img, .thread iframe").count() == 0
    shown = visit.page.goto(f"{address}/runs/made/conversations/x-0")
    assert shown.ok
    assert XSS[0] in visit.page.locator(".thread").inner_text()
    for path in ("/conversations?q=alert", "/sides", "/duplicates", ""):
        visit.page.goto(f"{address}/runs/made{path}")
    visit.page.goto(f"{address}/runs/made/conversations?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    visit.shoot("sides")


def test_twins_and_two_models_stand_side_by_side(visit, address):
    visit.page.goto(f"{address}/runs/made/duplicates")
    assert visit.page.locator(".cluster mark").all_inner_texts() == ["old"]
    visit.shoot("duplicates")
    visit.page.goto(f"{address}/answers")
    visit.page.select_option("[name=a]", "made")
    visit.page.wait_for_url("**a=made**")
    visit.page.select_option("[name=b]", "other")
    visit.page.wait_for_selector(".pair")
    visit.shoot("answers")
    shown = []
    while visit.page.locator("a:has-text('next →')").count():
        shown.append(visit.page.inner_text("main"))
        visit.page.click("a:has-text('next →')")
        visit.page.wait_for_selector(".pair")
    shown.append(visit.page.inner_text("main"))
    assert sum("quite another answer" in text for text in shown) == 1


def test_two_runs_are_compared(visit, address):
    visit.page.goto(f"{address}/compare?a=made&b=other")
    assert "made and other" in visit.page.inner_text("main")
    assert visit.page.locator("svg.chart").count() == 6
    visit.shoot("compare")


def test_a_live_run_is_followed_without_touching_it(visit, address, root):
    run = root / "talking"
    write_text(run / "recipe.yaml", "name: talking\nsimulate: {conversations: 100}\n")
    write_json(run / "journal" / "spent.json", {"seconds": 60.0})
    journal = sqlite3.connect(run / "journal" / "part-00000.sqlite", isolation_level=None)
    journal.execute("PRAGMA journal_mode = WAL")
    journal.execute("CREATE TABLE attempt (conversation, position, attempt, role, reason, text)")
    journal.execute("CREATE TABLE ending (conversation, stop_reason)")
    say(journal, range(40), "how do i mend thing {}")
    visit.page.goto(address)
    assert visit.page.locator(".badge.live").count() == 1
    visit.page.goto(f"{address}/runs/talking/live")
    assert visit.page.locator("#ended").inner_text() == "40 of 100"
    visit.shoot("live")
    say(journal, range(40, 90), "as an assistant i say {}")
    expect(visit.page.locator("#ended")).to_have_text("90 of 100", timeout=30_000)
    assert "it looks like it" in visit.page.inner_text("main")
    visit.shoot("live-collapse")
    journal.close()
    visit.page.goto("about:blank")
    shutil.rmtree(run)


def say(journal, numbers, text):
    """Conversations of one turn each, all begun alike."""
    for n in numbers:
        turn = (n, 0, 0, "user", "", text.format(n))
        journal.execute("INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?)", turn)
        journal.execute("INSERT INTO ending VALUES (?, 'user_ended')", (n,))


def test_a_page_elsewhere_cannot_set_a_mark(browser, address, root):
    """A form on another origin sends, as any page could, and is refused."""
    tab = browser.new_context().new_page()
    tab.route("http://elsewhere.localhost/**", lambda route: route.fulfill(
        content_type="text/html",
        body=f'<form method=post action="{address}/runs/made/marks"><input name=id value=x-3>'
             '<input name=mark value=bad><button>win a prize</button></form>',
    ))  # fmt: skip
    tab.goto("http://elsewhere.localhost/")
    with tab.expect_navigation() as found:
        tab.get_by_role("button").click()
    assert found.value.status == 403
    assert "x-3" not in read_marks(root / "made")
    tab.context.close()


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (390, 844, "dark")])
def test_the_report_opens_from_disk_on_any_screen(browser, root, width, height, scheme):
    visit = Visit(browser, viewport={"width": width, "height": height}, color_scheme=scheme)
    visit.page.goto((root / "made" / "report.html").as_uri())
    visit.shoot(f"report-{scheme}")
    wide = visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, "it is as wide as the screen"
    first = visit.page.locator(".tile")
    for at, question in enumerate(("How many", "like people", "Thrown away", "May I publish")):
        assert question in first.nth(at).inner_text()
        box = first.nth(at).bounding_box()
        assert box["y"] + box["height"] <= height, "it is answered on the first screen"
    assert visit.page.locator("svg.chart").count() >= 6
    visit.close()


@pytest.mark.parametrize("path", ["", "/conversations", "/live", "/sides"])
def test_a_phone_shows_every_page_without_sideways_scrolling(browser, address, path):
    visit = Visit(browser, viewport={"width": 390, "height": 844}, color_scheme="dark")
    visit.page.goto(f"{address}/runs/made{path}")
    visit.shoot(f"phone{path.replace('/', '-')}")
    wide = visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    visit.close()


def test_an_empty_folder_says_what_to_run(browser, tmp_path):
    with served(tmp_path) as url:
        visit = Visit(browser)
        visit.page.goto(url)
        assert visit.page.inner_text("pre") == "realchat run"
        visit.shoot("empty")
        make_run(tmp_path / "first")
        visit.page.reload()
        assert visit.page.locator("article").count() == 1
        visit.close()
