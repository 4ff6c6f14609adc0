"""Engines that fail: the run stops while there is little to hold again, and says how to."""

import re
from collections import Counter

import pytest

from usersim.engines.scripted import failing, refusing, talkative
from usersim.error_rate import FEWEST, WINDOW, ErrorRate
from usersim.errors import DeterministicError, EngineUseless, WorldError
from usersim.files import read_conversations, read_rows
from usersim.journal import Ending
from usersim.simulate import SimulateSettings, simulate

LOCKED = [
    ("the key has expired", "not_authorized"),
    ("insufficient balance", "not_paid"),
    ("no such model", "not_found"),
    ("moved", "redirected"),
]


def hold(run, assistant, **changed):
    given = {"conversations": 30, "shard_size": 12, "concurrency": 8, "max_rounds": 3}
    return simulate(SimulateSettings(**given | changed), talkative(2), assistant, run, "r", 7)


def reasons(run):
    """Why conversations were rejected; none were, where a run did not come to its end."""
    path = run / "rejected" / "simulate.parquet"
    return Counter(row["reason"] for row in read_rows(path)) if path.exists() else Counter()


def taken(rate, good, bad):
    """How many of the bad ones passed before it stopped."""
    for n in range(good):
        rate.take(Ending(n, "user_ended"))
    for n in range(bad):
        try:
            rate.take(Ending(good + n, "error", "engine_refused", "no"))
        except EngineUseless as error:
            return error.failed
    return bad


@pytest.mark.parametrize("good", [WINDOW, 20_000])
def test_what_went_well_long_ago_does_not_hide_what_fails_now(good):
    rate = ErrorRate(SimulateSettings(max_error_rate=0.2, concurrency=8))
    assert taken(rate, good, 500) == WINDOW // 5 + 1
    assert rate.errors == WINDOW // 5 + 1


def test_a_few_say_nothing_yet_and_the_allowed_share_never_stops():
    settings = SimulateSettings(max_error_rate=0.2)
    assert taken(ErrorRate(settings), 0, 100) == FEWEST
    rate = ErrorRate(settings)
    for _ in range(500):
        assert taken(rate, 4, 1) == 1
    assert taken(ErrorRate(SimulateSettings(max_error_rate=1.0)), 0, 500) == 500


def test_more_at_once_are_judged_by_more():
    wide = ErrorRate(SimulateSettings(max_error_rate=0.2, concurrency=1000))
    assert taken(wide, 5000, 500) == 201


def test_a_long_run_whose_engine_breaks_stops_before_much_is_spoiled(tmp_path):
    broken = failing(talkative(), DeterministicError("500 for good"), after=1200)
    with pytest.raises(WorldError, match=r"of the last 200 conversations ended in an") as caught:
        hold(tmp_path, broken, conversations=1200, shard_size=100, max_rounds=2)
    assert f"`realchat retry {tmp_path} --reason error`" in str(caught.value)
    assert "The same command resumes there" in str(caught.value)
    assert broken.calls < 1200 + 60


def test_however_few_there_are_the_run_is_not_done_when_too_many_failed(tmp_path):
    for _ in range(2):  # asked again it has nothing to hold, and is still not done
        with pytest.raises(WorldError, match=r"10 of 10 conversations ended in an engine's error"):
            hold(tmp_path, refusing(talkative()), conversations=10)
    assert reasons(tmp_path) == {"engine_refused": 10}  # they are there to be read
    figures = hold(tmp_path, talkative(), conversations=10, max_error_rate=1.0)
    assert figures["rejected"] == 10


def test_errors_after_a_whole_round_count_too(tmp_path):
    broken = failing(talkative(), DeterministicError("no"), after=10)
    with pytest.raises(WorldError, match=r"realchat retry .* --reason error"):
        hold(tmp_path, broken, conversations=10, concurrency=10, max_rounds=2)
    published = [c for p in (tmp_path / "conversations").glob("*") for c in read_conversations(p)]
    assert [c.stop_reason for c in published] == ["error"] * 10


@pytest.mark.parametrize(("after", "told"), zip([0, 7, 30, 30], LOCKED, strict=True))
def test_a_server_that_lets_nobody_in_is_no_conversations_fault(tmp_path, after, told):
    locked = failing(talkative(), DeterministicError(*told), after=after)
    with pytest.raises(WorldError, match=rf"{told[0]}; \d+ of 30 .* resumes") as caught:
        hold(tmp_path, locked)
    assert "retry" not in str(caught.value)  # nothing was spoiled
    figures = hold(tmp_path, talkative())
    assert (figures["conversations"], figures["rejected"]) == (30, 0)
    assert not re.search("error", str(figures["stop_reasons"]))
