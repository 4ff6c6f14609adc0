"""A run while it talks: counted from its journals, held against people, and never disturbed."""

import asyncio
import random

import pytest
from made_run import THINGS, make_run, talks

from pipelines.dashboard.live import Watch, alarms, distinct_openings, repeated_trigrams
from pipelines.dashboard.runs import is_live
from usersim.files import write_conversations, write_json, write_text
from usersim.journal import Attempt, Ending, Journal

OWNER = {"recipe": "r", "seed": 1, "first": 0, "size": 100}


def speak(journal, numbers, text="how do i mend thing {}", ended=True):
    async def write():
        for n in numbers:
            for position, role in enumerate(("user", "assistant")):
                said = text.format(n) if role == "user" else "like this"
                await journal.add(Attempt(n, position, 0, role, "", said, "stop", 9, 5, 0))
            refused = Attempt(n, 2, 0, "user", "parroting", "like this", "stop", 9, 5, 0)
            await journal.add(refused)
            if ended:
                await journal.add(Ending(n, "user_ended"))

    asyncio.run(write())


@pytest.fixture
def run(tmp_path):
    write_text(tmp_path / "recipe.yaml", "name: live\nsimulate: {conversations: 100}\n")
    write_json(tmp_path / "journal" / "spent.json", {"seconds": 60.0})
    return tmp_path


def test_what_was_said_is_counted(run):
    with Journal(run / "journal" / "part-00000.sqlite", OWNER) as journal:
        speak(journal, range(30))
        speak(journal, range(30, 35), ended=False)
        moment = Watch(run).look(0.0)
        assert (moment.planned, moment.ended, moment.turns, moment.talking) == (100, 30, 70, 5)
        assert moment.stop_reasons == {"user_ended": 30}
        assert moment.refused == {"user: parroting": 35}
        assert moment.rate == pytest.approx(0.5)
        assert moment.eta_s == pytest.approx(140.0)
        assert is_live(run)


def test_the_pace_is_that_of_the_last_minute(run):
    watch = Watch(run)
    with Journal(run / "journal" / "part-00000.sqlite", OWNER) as journal:
        speak(journal, range(10))
        watch.look(0.0)
        speak(journal, range(10, 40))
        assert watch.look(30.0).rate == pytest.approx(1.0)
        speak(journal, range(40, 50))
        later = [watch.look(t) for t in (60.0, 90.0, 120.0)][-1]
        assert later.rate < 1.0


def test_looking_changes_no_file_and_makes_none(run):
    with Journal(run / "journal" / "part-00000.sqlite", OWNER) as journal:
        speak(journal, range(5))
    before = {p.name: p.read_bytes() for p in (run / "journal").iterdir()}
    assert Watch(run).look(0.0).ended == 5
    assert {p.name: p.read_bytes() for p in (run / "journal").iterdir()} == before


def test_a_broken_journal_counts_for_nothing_and_hurts_nobody(run):
    (run / "journal" / "part-00000.sqlite").write_bytes(b"half a page")
    moment = Watch(run).look(0.0)
    assert (moment.ended, moment.eta_s) == (0, None)


def test_nothing_spoken_yet(tmp_path):
    moment = Watch(tmp_path).look(0.0)
    assert (moment.planned, moment.turns, moment.alarms) == (None, 0, [])


def test_a_whole_shard_is_read_once(run):
    watch = Watch(run)
    with Journal(run / "journal" / "part-00000.sqlite", OWNER) as journal:
        speak(journal, range(5))
    write_conversations(run / "conversations" / "part-00000.parquet", talks("x", 5, 2))
    assert watch.look(0.0).ended == 5
    (run / "journal" / "part-00000.sqlite").unlink()
    (run / "journal" / "part-00000.sqlite").touch()
    assert watch.look(1.0).ended == 5


def test_a_run_that_is_made_anew_is_counted_anew(run):
    """`--redo` and `retry` while somebody looks: the old figures stood there for ever."""
    watch, journal_file = Watch(run), run / "journal" / "part-00000.sqlite"
    data = run / "conversations" / "part-00000.parquet"
    with Journal(journal_file, OWNER) as journal:
        speak(journal, range(100))
    write_conversations(data, talks("x", 5, 2))
    assert (watch.look(0.0).ended, watch.look(1.0).talking) == (100, 0)
    data.unlink()
    for file in (run / "journal").glob("part-*"):
        file.unlink()
    with Journal(journal_file, OWNER) as journal:
        speak(journal, range(3))
        speak(journal, range(3, 5), ended=False)
        moment = watch.look(2.0)
        assert (moment.ended, moment.talking, moment.planned) == (3, 2, 100)


def test_people_who_come_after_the_first_look_are_held_beside(run):
    watch = Watch(run)
    with Journal(run / "journal" / "part-00000.sqlite", OWNER) as journal:
        speak(journal, range(60))
        assert watch.look(0.0).alarms[0].people is None
        write_conversations(run / "people" / "test.parquet", talks("p", 60, 2))
        assert watch.look(1.0).alarms[0].people is not None


def test_a_done_run_is_not_live(tmp_path):
    assert not is_live(make_run(tmp_path / "made"))


def people(seed, count=300):
    rng = random.Random(seed)
    words = [f"{a}{b}" for a in "bcdfghklmnprst" for b in ("ane", "ilo", "uty", "ork", "edd")]
    return [" ".join(rng.choices(words, k=7)) for _ in range(count)]


def test_people_beside_people_raise_no_alarm():
    for seed in range(5):
        assert not any(a.rings for a in alarms(people(seed), people(seed), people(seed + 100)))


@pytest.mark.parametrize(
    "openers",
    [
        [f"as a helpful assistant i {n}" for n in range(300)],
        [f"{n} {thing} please write me a short story" for n, thing in enumerate(THINGS * 22)],
        ["hello there friend"] * 300,
    ],
)
def test_a_simulator_that_repeats_itself_rings(openers):
    assert any(alarm.rings for alarm in alarms(openers, openers, people(1)))


def test_few_openers_say_nothing():
    assert alarms(["same"] * 39, ["same"] * 39, people(1)) == []


def test_known_values():
    assert distinct_openings(["a b c d", "A b c e", "x"]) == pytest.approx(2 / 3)
    share, example = repeated_trigrams(["a b c"] * 4 + ["d e f"] * 2 + ["g"] * 2)
    assert (share, example) == (0.5, "a b c (4)")
    loop = repeated_trigrams(["a b c a b c a b c a b c"])
    assert loop == (0.0, ""), "a loop within one text is no collapse"
