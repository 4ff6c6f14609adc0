"""A judge by closed lists: who sees agrees, who does not reaches chance, junk is counted."""

import json

import pytest

from usersim.engines.scripted import ScriptedEngine, refusing, repeating, talkative
from usersim.personas.acts import InteractSettings
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.interact import interact
from usersim.personas.label_judge import LabelJudgeSettings, answer_schema, judge_labels
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.script import read_scripts

CAST = make_personas(FactorySettings(number=8)).personas
SCENES = make_scenes(CAST, SceneSettings(each=6))
SETTINGS = LabelJudgeSettings(concurrency=4)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    interact(InteractSettings(utterances=4, spread=0), CAST, SCENES, folder, talkative())
    return read_scripts(folder / "scripts.jsonl")


def knowing(scripts):
    """A reader who knows every script by its first words."""
    answers = {
        s.spoken()[0].content: {"emotion": s.scene.emotion, "topic": s.scene.topic} for s in scripts
    }

    def script(messages, sampling):
        text = messages[0].content
        return json.dumps(next(answer for said, answer in answers.items() if said in text))

    return ScriptedEngine(script)


def test_a_reader_who_sees_it_agrees_fully(scripts):
    figures = judge_labels(SETTINGS, scripts, knowing(scripts))
    for kind in ("emotion", "topic"):
        assert figures[kind]["agreed"] == 1
        assert figures[kind]["chance"] < 0.1
        assert sum(row["n"] for row in figures[kind]["labels"].values()) == len(scripts) == 48
    assert figures["unread"] == {}


def test_a_reader_who_always_says_the_same_reaches_chance(scripts):
    answer = {"emotion": scripts[0].scene.emotion, "topic": scripts[0].scene.topic}
    figures = judge_labels(SETTINGS, scripts, repeating(json.dumps(answer)))
    assert figures["emotion"]["agreed"] == figures["emotion"]["chance"]
    assert figures["emotion"]["named"] == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [("happy", "not_json"), ('"happy"', "no_label"), ('{"emotion": "glee"}', "no_label"),
     ("[]", "no_label"), ('{"emotion": [], "topic": {}}', "no_label")],
)  # fmt: skip
def test_what_names_no_label_is_counted_and_agrees_with_nothing(scripts, answer, reason):
    figures = judge_labels(SETTINGS, scripts, repeating(answer))
    assert figures["unread"] == {reason: 48}
    assert figures["emotion"]["agreed"] == 0


def test_an_engine_that_refuses_is_counted(scripts):
    figures = judge_labels(SETTINGS, scripts, refusing(repeating("x")))
    assert figures["unread"] == {"engine_refused": 48}


def test_a_grammar_allows_labels_of_the_lists_only():
    schema = json.loads(answer_schema({"emotion": ["sad"], "topic": ["news", "work"]}))
    assert schema["properties"]["topic"]["enum"] == ["news", "work"]
    assert schema["additionalProperties"] is False
