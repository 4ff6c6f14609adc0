"""A model judges in curation: asked once, remembered, decided on, counted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_curate import conversation, mixed, run

from assistant.scoring import Scored
from pipelines import llm_judge
from pipelines.curate import CurateSettings
from pipelines.llm_judge import JudgeSettings, ask_judge
from pipelines.recipe import Recipe
from pipelines.score_book import ScoreBook, read_scores
from pipelines.stage_table import stage_named
from usersim.engine import Completion
from usersim.engines.scripted import SCRIPTS, ScriptedEngine, dying, overloaded
from usersim.errors import WorldError
from usersim.files import read_rows

PRICE = {"prompt": 1.0, "completion": 4.0, "currency": "EUR"}


def verdict(number, reason="so"):
    return json.dumps({"reason": reason, "score": number})


def script(messages, sampling):
    """Basil bores this judge, and mint leaves it speechless."""
    text = messages[-1].content.lower()
    if "mint" in text:
        return "I would rather not say."
    return Completion(verdict(3 if "basil" in text else 8, "read"), "stop", 100, 10)


def judge():
    return ScriptedEngine(script, "strict")


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setitem(SCRIPTS, "strict", lambda role: judge())


def settings(filters=None, **changed):
    engine = {"kind": "scripted", "model": "strict", "price": PRICE}
    table = {"kind": "engine", "engine": engine, **changed}
    return CurateSettings(judge=table, filters=filters or {})


def asked(folder, engine, **changed):
    shards = sorted((folder / "conversations").glob("part-*.parquet"))
    chosen = settings(**changed)
    book = folder / "judged" / "scores.sqlite"
    return ask_judge(chosen.judge, chosen.filters, shards, book, engine)


def test_scores_are_exported_counted_and_paid_for(tmp_path):
    figures, kept, _ = run(tmp_path, mixed(), chosen=settings())
    told = figures["judge"]
    # The refusal and the leak are left to the rules; the copy says other words than basil's twin.
    assert told["conversations"] == {
        "asked": 10, "remembered": 0, "said_before": 0, "not_in_the_share": 0,
        "left_to_the_rules": 2,
    }  # fmt: skip
    assert (told["scored"], told["unscored"], told["scores"]) == (
        9,
        {"not_json": 1},
        {"3": 2, "8": 7},
    )
    assert told["tokens"]["completion"] == 9 * 10 + 3 * 5  # three tries of five words
    assert told["cost"]["EUR"] == pytest.approx(
        (told["tokens"]["prompt"] + 4 * told["tokens"]["completion"]) / 1e6
    )
    judging = figures["cost"]["judging"]
    assert judging["tokens"] == told["tokens"]["prompt"] + told["tokens"]["completion"]
    assert judging["paid"] == told["cost"]
    rows = {r["id"]: r for r in read_rows(tmp_path / "curated" / "verdicts" / "verdicts.parquet")}
    assert rows["clean-basil"]["judge_score"] == 3.0
    assert rows["clean-basil"]["judge_reason"] == "read"
    assert rows["clean-mint"]["judge_score"] is None
    assert rows["clean-mint"]["judge_outcome"] == "not_json"
    assert rows["leaks"]["judge_outcome"] is None
    assert "clean-basil" in {c.id for c in kept}  # no threshold: told, not decided


def test_the_least_score_decides_before_duplicates_are_sought(tmp_path):
    bored = {"min_judge_score": 5}
    _, kept, rejected = run(tmp_path, mixed(), chosen=settings(bored))
    by_id = {row["id"]: row for row in rejected}
    assert by_id["clean-basil"]["reason"] == by_id["copy"]["reason"] == "low_judge_score"
    assert by_id["clean-basil"]["detail"] == "judged 3: read"
    assert "clean-mint" in {c.id for c in kept}
    strict = settings(bored | {"drop_unscored": True})
    _, kept, rejected = run(tmp_path, mixed(), chosen=strict)
    assert {r["id"]: r["reason"] for r in rejected}["clean-mint"] == "unscored"


def test_nothing_is_asked_twice_whatever_changes_around_the_judge(tmp_path):
    run(tmp_path, mixed(), chosen=settings())
    engine = judge()
    again = asked(tmp_path, engine, filters={"min_judge_score": 7}, concurrency=2)
    assert engine.calls == 0
    assert again["conversations"]["remembered"] == 10
    assert again["scored"] == 9
    assert again["tokens"]["completion"] == 9 * 10 + 3 * 5
    run(tmp_path, list(reversed(mixed())), shards=3)  # other shards
    assert asked(tmp_path, engine)["conversations"]["asked"] == engine.calls == 0
    asked(tmp_path, engine, rubric="10: it rhymes. 1: it does not.")
    assert engine.calls > 0  # another question


def test_the_judge_reads_what_would_be_kept_masked(tmp_path):
    read = []
    engine = ScriptedEngine(lambda m, s: read.append(m[-1].content) or verdict(7), "strict")
    run(tmp_path, [conversation("mail", "who runs the cafe", "Mara: mara.quill@gardenpost.se")])
    asked(tmp_path, engine)
    assert "[EMAIL]" in read[0]
    assert "gardenpost" not in read[0]


def test_equal_conversations_are_asked_about_once_under_whatever_ids(tmp_path):
    twins = [conversation(f"twin-{i}", "how deep is the sea", "Four kilometres.") for i in range(9)]
    engine = judge()
    run(tmp_path, twins)
    assert asked(tmp_path, engine)["conversations"]["said_before"] == 8
    assert engine.calls == 1


def test_the_share_is_chosen_by_what_is_said(tmp_path):
    many = [conversation(f"c-{i}", f"what is {i} and {i}", f"It is {2 * i}.") for i in range(400)]
    run(tmp_path, many)
    part = asked(tmp_path, judge(), share=0.25)
    assert 60 < part["conversations"]["asked"] < 140
    more = asked(tmp_path, judge(), share=0.5)
    assert more["conversations"]["remembered"] == part["conversations"]["asked"]


def test_a_judge_that_dies_loses_nothing_that_it_said(tmp_path):
    run(tmp_path, mixed())
    with pytest.raises(WorldError, match="the same command goes on"):
        asked(tmp_path, dying(judge(), after=4), concurrency=1)
    engine = judge()
    told = asked(tmp_path, engine)
    assert told["conversations"]["remembered"] + told["conversations"]["asked"] == 10
    assert told["conversations"]["remembered"] >= 2


def test_what_was_overloaded_is_asked_again_later_and_too_much_of_it_stops(tmp_path, monkeypatch):
    run(tmp_path, mixed())
    told = asked(tmp_path, overloaded(judge(), times=2), concurrency=1, tries=1)
    assert told["unscored"] == {"overloaded": 2}
    again = asked(tmp_path, judge(), concurrency=1, tries=1)
    assert again["conversations"]["asked"] == 2
    assert again["unscored"] == {"not_json": 1}
    monkeypatch.setattr(llm_judge, "SURE", 5)
    with pytest.raises(WorldError, match="unanswered"):
        asked(tmp_path, overloaded(judge()), tries=1, rubric="another")


KILLED = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_llm_judge import asked, judge
asked(Path(sys.argv[1]), judge(), concurrency=1)
"""


def test_kill_minus_nine_costs_no_answer_that_was_given(tmp_path):
    run(tmp_path, mixed())
    root = Path(__file__).parents[2]
    environment = os.environ | {"REALCHAT_FAULT": "scores.commit:6", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr.decode()
    told = asked(tmp_path, judge())
    assert (told["conversations"]["remembered"], told["conversations"]["asked"]) == (6, 4)
    assert told["seconds"] > 0


def test_the_book_is_one_plain_file_when_it_is_closed(tmp_path):
    with ScoreBook(tmp_path / "odd ?name" / "s.sqlite", "me") as book:
        book.add([("a", Scored("scored", 7.0, "fine", 1, 2, 3))], 1.5)
        book.add([("b", Scored("not_json"))], 2.5)
        assert (book.size, book.seconds, book.of("c")) == (2, 2.5, None)
    assert [p.name for p in book.path.parent.iterdir()] == ["s.sqlite"]
    found = read_scores(book.path, "me", ["b", "a", "c"])
    assert found == [Scored("not_json"), Scored("scored", 7.0, "fine", 1, 2, 3), None]
    assert read_scores(book.path, "another", ["a"]) == [None]


def test_how_patiently_a_judge_is_asked_changes_no_run():
    curate = stage_named("curate")
    quick = Recipe.checked({"curate": {"judge": {"concurrency": 4}}}, "test")
    slow = Recipe.checked({"curate": {"judge": {"engine": {"timeout_s": 9}}}}, "test")
    other = Recipe.checked({"curate": {"judge": {"rubric": "10: short"}}}, "test")
    assert quick.stage_fingerprint(curate) == slow.stage_fingerprint(curate)
    assert quick.stage_fingerprint(curate) != other.stage_fingerprint(curate)


@pytest.mark.slow
def test_the_real_engine_scores_every_conversation(tmp_path):
    """Under a grammar a 135M model gives scores that can be read; what they are worth is weak."""
    run(tmp_path, mixed())
    small = JudgeSettings(kind="engine", engine={"context_tokens": 1024, "kv_cache_gb": 0.25})
    shards = sorted((tmp_path / "conversations").glob("part-*.parquet"))
    told = ask_judge(small, CurateSettings().filters, shards, tmp_path / "s.sqlite")
    assert (told["scored"], told["unscored"]) == (10, {})
    assert told["tokens"]["completion"] > 0
