"""The judge: every reply judged with evidence; planted mistakes lower the right scores."""

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from assistant.characters.interviews import Interview, Said
from assistant.characters.judging import JudgeSettings, judge
from assistant.characters.profile import find_profile
from usersim.engine import Completion
from usersim.engines.scripted import ScriptedEngine, dying, repeating
from usersim.errors import WorldError

TAMSIN = find_profile("tamsin-orrow")
SETTINGS = JudgeSettings(repeats=2)
LATER = ("television", "computer", "aeroplane to the moon")


def interview(*replies, ask="What was your father's work?"):
    turns = [t for reply in replies for t in (Said("user", ask), Said("assistant", reply))]
    return Interview(TAMSIN.name, "m", "", "fact", ask, 0, "rounds", tuple(turns))


def judged(folder, interviews, engine, settings=SETTINGS):
    return asyncio.run(judge(interviews, TAMSIN, engine, settings, folder))


def verdict(score, reason="so"):
    return json.dumps({"reason": reason, "score": score})


def reading_judge():
    """A judge that reads: names that the notes lack are false facts, later things are beyond."""

    def script(messages, sampling):
        system, text = messages[0].content, messages[-1].content
        notes, _, reply = text.partition("Reply: ")
        names = set(re.findall(r"(?<!^)(?<!\. )\b[A-Z][a-z]{3,}", reply))
        if "facts in the reply" in system:
            return verdict(2 if [n for n in names if n not in notes] else 6)
        if "can know" in system:
            return verdict(1 if any(word in reply for word in LATER) else 6)
        return verdict(5)

    return ScriptedEngine(script, "reader")


TRUE = "My father Corin piloted ships through the Needle Channel."
FALSE = "My father Corin piloted ships through the Bosporus for Napoleon."
ANACHRONISM = "My father Corin saw the Needle Channel on a television."


def scores(folder, reply):
    kept, _, _ = judged(folder, [interview(reply)], reading_judge())
    return {j.dimension: j.score for j in kept}


def test_a_planted_false_fact_lowers_memorisation_only(tmp_path):
    right, wrong = scores(tmp_path / "a", TRUE), scores(tmp_path / "b", FALSE)
    assert wrong["memorisation"] < right["memorisation"]
    assert {k: v for k, v in wrong.items() if k != "memorisation"} == {
        k: v for k, v in right.items() if k != "memorisation"
    }


def test_a_planted_anachronism_lowers_hallucination_only(tmp_path):
    right, wrong = scores(tmp_path / "a", TRUE), scores(tmp_path / "b", ANACHRONISM)
    assert wrong["hallucination"] < right["hallucination"]
    assert wrong["memorisation"] == right["memorisation"]


@pytest.mark.parametrize("number", range(len(TAMSIN.paragraphs)))
def test_a_fact_from_any_paragraph_can_be_verified(tmp_path, number):
    """DC7: the judge is shown the paragraph that a reply is about, wherever it stands."""
    seen = []

    def script(messages, sampling):
        seen.append(messages[-1].content)
        return verdict(4)

    paragraph = TAMSIN.paragraphs[number]
    judged(tmp_path, [interview(paragraph.sentences[-1])], ScriptedEngine(script, "j"))
    assert all(paragraph.text in text for text in seen)


def test_every_reply_is_judged_in_every_dimension(tmp_path):
    """DC6: no turn vanishes; stability is judged from the second reply on."""
    replies = ["(I wonder.) Clocks.", "", "Salt."]
    kept, refused, counts = judged(tmp_path, [interview(*replies)], repeating(verdict(3), "j"))
    found = Counter((j.dimension, j.turn) for j in kept)
    assert refused == []
    assert set(found.values()) == {2}
    assert {d for d, turn in found if turn == 0} == set(SETTINGS.dimensions)
    assert {d for d, turn in found if turn == 2} == {*SETTINGS.dimensions, "stability"}
    assert counts["wanted"] == counts["read"] == len(kept) == 2 * (4 + 5 + 5)


def test_all_malformed_answers_are_quarantined_and_the_rest_is_read(tmp_path):
    """The noisy engine: every planted malformed answer comes back as a rejection with a reason."""
    bad = ["7", "The score is 5", verdict(9), '{"score": 3}', '{"reason": "x", "sc']
    planted = []

    def script(messages, sampling):
        if sampling.seed % 3:
            return verdict(1 + sampling.seed % 7)
        planted.append(bad[len(planted) % len(bad)])
        return Completion(planted[-1], "length" if planted[-1].endswith("sc") else "stop")

    many = [interview(f"I built clock number {n}.") for n in range(40)]
    kept, refused, counts = judged(tmp_path, many, ScriptedEngine(script, "noisy"))
    assert sorted(r.record for r in refused) == sorted(planted)
    assert len(planted) > 100
    assert {r.reason for r in refused} == {"not_json", "wrong_fields", "out_of_range", "cut_off"}
    assert len(kept) + len(refused) == counts["wanted"] == 40 * 4 * 2


def test_replies_that_were_cut_are_left_out_and_counted_unless_asked_for(tmp_path):
    """DC9: one side's broken-off answers are not held against the other's whole ones."""
    cut = interview("A whole one.")
    cut = replace(cut, turns=(*cut.turns, Said("user", "And?"), Said("assistant", "It", "length")))
    _, _, counts = judged(tmp_path / "a", [cut], repeating(verdict(3), "j"))
    assert (counts["wanted"], counts["left_out_cut"]) == (8, 1)
    every = SETTINGS.model_copy(update={"whole_only": False})
    _, _, counts = judged(tmp_path / "b", [cut], repeating(verdict(3), "j"), every)
    assert (counts["wanted"], counts["left_out_cut"]) == (8 + 10, 0)


def test_judging_goes_on_where_it_stopped(tmp_path):
    many = [interview(f"I built clock number {n}.") for n in range(10)]
    with pytest.raises(WorldError, match="goes on"):
        judged(tmp_path, many, dying(repeating(verdict(3), "j"), after=50))
    engine = repeating(verdict(3), "j")
    kept, _, counts = judged(tmp_path, many, engine)
    assert len(kept) == 80
    assert engine.calls == counts["asked"] <= 30
