"""The index holds every conversation once, follows the run, and can be thrown away."""

import shutil
from dataclasses import replace

import pytest
from looked_at import marked_run
from made_run import talks

from pipelines.dashboard.browse import Browser, Wish
from pipelines.dashboard.catalogue import Catalogue
from usersim.files import write_conversations


def indexed(run):
    catalogue = Catalogue(run)
    catalogue.refresh()
    assert catalogue.problem == ""
    return Browser(catalogue)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Only looked at."""
    return indexed(marked_run(tmp_path_factory.mktemp("runs") / "made"))


@pytest.fixture
def changing(browser, tmp_path):
    """A copy that a test may change."""
    return indexed(shutil.copytree(browser.catalogue.run, tmp_path / "made"))


def test_every_conversation_is_there_once(browser):
    ids = [row["id"] for row in browser.find(Wish(), page_size=1000).rows]
    assert (len(ids), len(set(ids)), browser.total) == (249, 249, 249)


def test_pages_are_the_list_cut_in_pieces(browser):
    pages = [browser.find(Wish(page=n)).rows for n in range(1, 12)]
    whole = browser.find(Wish(), page_size=1000).rows
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in whole]


@pytest.mark.parametrize("wish", [Wish(min_rounds=2), Wish(q="bicycle", sort="longest")])
def test_pages_of_what_was_filtered_are_its_list_cut_in_pieces_too(browser, wish):
    whole = browser.find(wish, page_size=1000)
    pages = [browser.find(replace(wish, page=n), page_size=7) for n in range(1, 40)]
    assert [row["id"] for page in pages for row in page.rows] == [row["id"] for row in whole.rows]
    assert {page.total for page in pages} == {whole.total} == {len(whole.rows)}


def test_opened_rows_come_in_the_order_that_was_asked_for(browser):
    rows = browser.openers_of(["x-2", "simulated-0240", "x-0", "nobody"])
    asked = [rows[identity] for identity in ("x-0", "simulated-0240", "x-2")]
    opened = browser.open_rows(asked)
    assert [o.row["id"] for o in opened] == ["x-0", "simulated-0240", "x-2"]
    assert opened[0].messages == browser.open("x-0").messages


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"q": "rusty bicycle", "persona": "<u>0</u>"}, {"x-90"}),
        ({"outcome": "rejected"}, {"x-91", "x-0"}),
        ({"reason": "near_duplicate_opener"}, {"x-91"}),
        ({"language": "de"}, {"x-2"}),
        ({"score": "quality", "low": "0.6"}, {"x-90", "x-91"}),
        ({"outcome": "unfinished", "stop_reason": "bad_turn"}, {"simulated-0240"}),
        ({"q": "x-3"}, {"x-3"}),
        ({"reason": "' OR 1=1 --"}, set()),
        ({"score": 'n" --', "low": "x", "outcome": "rejected"}, {"x-91", "x-0"}),
    ],
)
def test_filters_find_exactly_what_they_name(browser, asked, ids):
    assert {row["id"] for row in browser.find(Wish.of(asked)).rows} == ids


def test_rounds_are_bounded_on_both_sides(browser):
    found = browser.find(Wish(min_rounds=2, max_rounds=3), page_size=1000).rows
    assert {row["rounds"] for row in found} == {2, 3}


def test_the_text_of_an_opened_conversation_is_whole(browser):
    opened = browser.open("x-0")
    assert [m["content"] for m in opened.messages] == [
        "<script>alert(1)</script>",
        "you said <script>alert(1)</script>",
    ]
    assert (opened.row["outcome"], opened.row["detail"]) == ("rejected", "<b>I cannot</b>")
    assert browser.open("nobody") is None


def test_a_new_shard_is_taken_up_and_the_old_ones_are_not_read_again(changing):
    before = changing.catalogue.talks()
    more = talks("later", 7, 3, assistant_model="m")
    write_conversations(changing.catalogue.run / "conversations" / "part-00003.parquet", more)
    changing.catalogue.refresh()
    assert changing.find(Wish()).total == 256
    assert changing.catalogue.talks()[: len(before)] == before
    assert changing.find(Wish(assistant_model="m")).total == 7


def test_a_run_that_was_made_anew_is_indexed_anew(changing):
    run = changing.catalogue.run
    (run / "conversations" / "part-00002.parquet").unlink()
    write_conversations(run / "conversations" / "part-00001.parquet", talks("other", 3, 2))
    changing.catalogue.refresh()
    assert changing.find(Wish(), page_size=1000).total == 150 + 3 + 1
    assert changing.find(Wish(q="rusty bicycle", persona="<u>0</u>")).total == 0


def test_new_verdicts_are_taken_up_without_reading_the_shards_again(changing):
    (changing.catalogue.run / "rejected" / "curate.parquet").unlink()
    changing.catalogue.refresh()
    assert dict(changing.facets()["outcome"]) == {"not judged": 248, "unfinished": 1}


def test_a_batch_that_was_broken_off_is_made_again(changing):
    """A crash between the narrow rows and the commit leaves a file that nobody knows."""
    folder = changing.catalogue.folder
    (folder / "talks-000999.parquet").write_bytes(b"half")
    assert changing.find(Wish()).total == 249


def test_who_looks_while_the_index_is_begun_sees_none_and_no_error(changing):
    """SQLite makes the file before its tables; pages asked for in between ended as errors."""
    for path in changing.catalogue.folder.glob("text.sqlite*"):
        path.unlink()
    changing.catalogue.words.touch()
    assert (changing.find(Wish()).total, changing.find(Wish(q="rent")).rows) == (0, [])
    changing.catalogue.refresh()
    assert changing.find(Wish()).total == 249


def test_text_that_has_no_blanks_is_found_by_reading(changing):
    run = changing.catalogue.run
    from usersim.conversation import Conversation, Message

    said = (Message("user", "家賃が遅れています"), Message("assistant", "大家さんに手紙を"))
    write_conversations(run / "conversations" / "part-00009.parquet",
                        [Conversation(id="jp", messages=said)])  # fmt: skip
    changing.catalogue.refresh()
    found = changing.find(Wish(q="手紙"))
    assert ([row["id"] for row in found.rows], found.capped) == (["jp"], False)
    assert "shards were read" in found.note


def test_what_is_left_out_is_left_out_where_nothing_else_is_asked_for(browser):
    """It was looked for as it stands, dash and all, and nothing was found."""
    without, total = browser.find(Wish(q="-mend"), page_size=1000), browser.find(Wish()).total
    having = {row["id"] for row in browser.find(Wish(q="mend"), page_size=1000).rows}
    assert having
    assert (without.total, without.note) == (total - len(having), "")
    assert not having & {row["id"] for row in without.rows}


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"q": "手紙 -家賃"}, ["b"]),
        ({"q": "家賃 手紙"}, ["a"]),
        ({"q": "-手紙 家賃"}, []),
        ({"q": "手紙", "side": "user"}, ["b"]),
        ({"q": "手紙", "side": "assistant"}, ["a"]),
    ],
)
def test_text_that_has_no_blanks_is_asked_for_in_the_same_way(changing, asked, ids):
    from usersim.conversation import Conversation, Message

    said = {"a": ("家賃が遅れています", "大家さんに手紙を"), "b": ("手紙を書いて", "はい")}
    talks = [
        Conversation(id=name, messages=(Message("user", user), Message("assistant", answer)))
        for name, (user, answer) in said.items()
    ]
    write_conversations(changing.catalogue.run / "conversations" / "part-00009.parquet", talks)
    changing.catalogue.refresh()
    assert [row["id"] for row in changing.find(Wish(**asked)).rows] == ids


def test_a_cluster_is_a_kept_one_and_those_that_went_for_it(browser):
    clusters, total = browser.clusters(1)
    assert total == 1
    assert (clusters[0]["twin"], clusters[0]["members"]) == ("x-90", ["x-91"])
