"""Interactions: legal by construction, thoughts nobody else hears, resumed without asking twice."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.engines.scripted import ScriptedEngine, dying, repeating, talkative
from usersim.errors import EngineDead, InputError
from usersim.files import read_rows
from usersim.personas.acts import Act, InteractSettings, acts_of
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.interact import interact, plan
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.script import read_scripts, write_scripts

CAST = make_personas(FactorySettings(number=5)).personas
SCENES = make_scenes(CAST, SceneSettings(each=3))


class Listening(ScriptedEngine):
    """Says a sentence of its own each time, and remembers what it was shown."""

    def __init__(self):
        self.seen = []

        def script(messages, sampling):
            self.seen.append("\n".join(m.content for m in messages))
            cue = messages[-1].content.rpartition("(")[2]
            kind = "thought" if cue.startswith("What do you think") else "speech"
            return f"{kind} number {sampling.seed} said for the very first time"

        super().__init__(script, model="listening")


names = st.lists(st.sampled_from("ABCDEF"), min_size=2, max_size=5, unique=True).map(tuple)


@given(names, st.integers(4, 30), st.sampled_from(["main", "all", "none"]), st.integers())
@settings(max_examples=25, deadline=None)
def test_acts_are_legal_whatever_the_seed(speakers, length, thinkers, seed):
    wanted = InteractSettings(utterances=length, spread=2, thinkers=thinkers)
    acts = acts_of(wanted, speakers, str(seed))
    permitted = {"main": speakers[:1], "all": speakers, "none": ()}[thinkers]
    assert abs(len(acts) - length) <= 2
    assert {a.speaker for a in acts} <= set(speakers)
    assert all(a.speaker in permitted for a in acts if a.action == "thinking")
    assert acts[-1].action == "speaking"
    for one, two in pairwise(acts):
        assert one != two
        assert one.action == "speaking" or two == Act(one.speaker, "speaking")


def test_about_as_many_thoughts_as_asked_for():
    wanted = InteractSettings(thought_share=0.3)
    acts = [a for n in range(400) for a in acts_of(wanted, ("A", "B"), str(n))]
    assert sum(a.action == "thinking" for a in acts) / len(acts) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize(("parties", "thinkers"), [(2, "main"), (3, "all")])
def test_no_call_ever_saw_another_ones_thought(tmp_path, parties, thinkers):
    engine = Listening()
    wanted = InteractSettings(parties=parties, thinkers=thinkers, concurrency=1)
    figures = interact(wanted, CAST, SCENES, tmp_path, engine)
    scripts = read_scripts(tmp_path / "scripts.jsonl")
    assert figures["scripts"] == len(SCENES)
    assert figures["thoughts"] > 10
    thoughts = [(s, u) for s in scripts for u in s.utterances if u.action == "thinking"]
    for script, thought in thoughts:
        shown = [text for text in engine.seen if thought.content in text]
        assert all(text.startswith(f"You are {thought.speaker},") for text in shown)
        assert f"(to myself) {thought.content}" in "".join(shown)  # and they do know their own
        for other in set(script.speakers) - {thought.speaker}:
            assert thought not in script.heard_by(other)


def test_only_the_main_character_knows_how_they_feel(tmp_path):
    engine = Listening()
    interact(InteractSettings(concurrency=1), CAST, SCENES[:1], tmp_path, engine)
    feeling = {text.split(",")[0] for text in engine.seen if "Emotion:" in text}
    assert feeling == {f"You are {CAST[0].name}"}


def test_lengths_are_what_was_planned(tmp_path):
    wanted = InteractSettings(utterances=7, spread=1)
    interact(wanted, CAST, SCENES, tmp_path, talkative())
    for script, planned in zip(
        read_scripts(tmp_path / "scripts.jsonl"), plan(wanted, CAST, SCENES), strict=True
    ):
        acts = [(u.speaker, u.action) for u in script.utterances]
        assert acts == [(a.speaker, a.action) for a in planned.acts]
        assert len(set(script.speakers)) == 2


def test_what_cannot_be_said_is_rejected_with_its_reason(tmp_path):
    wanted = InteractSettings(attempts=2, most_words=20)
    engine = repeating(" ".join(f"word{n}" for n in range(30)))
    figures = interact(wanted, CAST, SCENES, tmp_path, engine)
    assert (figures["scripts"], figures["rejected"]) == (0, {"too_long": len(SCENES)})
    rows = read_rows(tmp_path / "rejected.parquet")
    assert {row["id"] for row in rows} == {s.id for s in SCENES}
    assert engine.calls == 2 * len(SCENES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no", "too_short"),
        (f"{CAST[0].name}: hello to all of you", "speaks_as_script"),
        ("", "empty"),
    ],
)
def test_an_utterance_of_the_wrong_kind_is_drawn_again(tmp_path, text, reason):
    figures = interact(InteractSettings(attempts=1), CAST, SCENES[:1], tmp_path, repeating(text))
    assert figures["drawn_again"] == {reason: 1}


def test_a_dead_engine_costs_nothing_that_was_finished(tmp_path):
    first = dying(talkative(), after=40)
    with pytest.raises(EngineDead):
        interact(InteractSettings(concurrency=3), CAST, SCENES, tmp_path, first)
    second = talkative()
    interact(InteractSettings(concurrency=2), CAST, SCENES, tmp_path, second)
    whole = interact(InteractSettings(), CAST, SCENES, tmp_path / "other", alone := talkative())
    assert 40 + second.calls == alone.calls
    assert whole["scripts"] == len(SCENES)
    here, there = tmp_path / "scripts.jsonl", tmp_path / "other" / "scripts.jsonl"
    assert here.read_text() == there.read_text()


def test_another_plan_is_refused_in_the_same_folder(tmp_path):
    interact(InteractSettings(), CAST, SCENES[:2], tmp_path, talkative())
    with pytest.raises(InputError, match="belongs to another run"):
        interact(InteractSettings(utterances=8), CAST, SCENES[:2], tmp_path, talkative())


def test_people_who_were_added_are_refused_in_the_same_folder(tmp_path):
    """Who else is in a scene follows from all of them: words would become somebody else's."""
    with pytest.raises(EngineDead):
        interact(
            InteractSettings(concurrency=1),
            CAST[:3],
            SCENES[:3],
            tmp_path,
            dying(talkative(), after=4),
        )
    assert plan(InteractSettings(), CAST[:3], SCENES[:3]) != plan(
        InteractSettings(), CAST, SCENES[:3]
    )
    with pytest.raises(InputError, match="people"):
        interact(InteractSettings(), CAST, SCENES[:3], tmp_path, talkative())
    interact(InteractSettings(), CAST[:3], SCENES[:3], tmp_path, talkative())


def test_two_people_of_one_name_are_told_before_they_talk():
    personal = CAST[1].personal.model_copy(update={"name": CAST[0].name})
    people = [CAST[0], CAST[1].model_copy(update={"personal": personal})]
    with pytest.raises(InputError, match="rename"):
        plan(InteractSettings(), people, SCENES[:1])


def test_thoughts_can_be_left_out_of_the_file(tmp_path):
    interact(InteractSettings(), CAST, SCENES, tmp_path, talkative())
    scripts = read_scripts(tmp_path / "scripts.jsonl")
    write_scripts(tmp_path / "spoken.jsonl", scripts, thoughts=False)
    spoken = read_scripts(tmp_path / "spoken.jsonl")
    assert [s.utterances for s in spoken] == [s.spoken() for s in scripts]
    assert {s.thinkers for s in spoken} == {()}
