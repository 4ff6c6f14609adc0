"""Compliance: planted labels, styles and slips are counted as they were planted."""

import pytest

from usersim.personas import tables
from usersim.personas.compliance import compliance, followed, shows
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.script import Script, Utterance
from usersim.personas.vocabulary import EMOTIONS, TOPICS

CAST = make_personas(FactorySettings(number=40)).personas
PEOPLE = {p.id: p for p in CAST}
SCENES = make_scenes(CAST, SceneSettings(each=1))


def script(number, character, typed, source="roleplay"):
    main, user = CAST[number], CAST[(number + 1) % len(CAST)]
    said = [(user, typed), (main, character)]
    return Script(
        id=f"{number}", scene=SCENES[number], speakers=(main.name, user.name), source=source,
        utterances=tuple(Utterance(p.name, "speaking", text) for p, text in said),
    )  # fmt: skip


def test_every_label_has_cues():
    assert set(tables.cues()["emotions"]) == set(EMOTIONS)
    assert set(tables.cues()["topics"]) == set(TOPICS)


def test_a_label_that_is_followed_stands_out_and_one_that_is_not_does_not():
    cues = {"happy": ("glad",), "sad": ("cry", "tear")}
    follows = [("happy", "so glad of it"), ("sad", "I could cry")] * 5
    ignores = [("happy", "so glad and tearful"), ("sad", "so glad and tearful")] * 5
    assert followed(follows, cues)["gain"] == {"mean": 1, "low": 1, "high": 1}
    assert followed(ignores, cues)["gain"] == {"mean": 0, "low": 0, "high": 0}
    assert followed([], cues)["gain"] is None
    assert followed(follows, cues)["labels"]["sad"] == {"n": 5, "shown": 1, "elsewhere": 0}


@pytest.mark.parametrize(
    ("text", "shown"), [("In TEARS", True), ("a steary eye", False), ("", False)]
)
def test_a_cue_is_the_beginning_of_a_word(text, shown):
    assert shows(text, ("tear",)) is shown


def typed_by(person):
    """A message in exactly the style of a person."""
    words = ["okay"] * {"short": 3, "medium": 8, "long": 20}[person.style.length]
    text = " ".join(words)
    text = text if person.style.capitals == "none" else text.capitalize()
    return text if person.style.punctuation == "none" else text + "."


def test_people_who_type_as_told_agree_with_themselves_and_not_with_others():
    scripts = [script(n, "I do.", typed_by(CAST[(n + 1) % 40])) for n in range(40)]
    style = compliance(scripts, PEOPLE)["style"]
    for name in ("case", "ends", "opens_with"):
        assert style[name]["own"] == 1
        assert style[name]["other"] < 0.9
        assert style[name]["gain"]["low"] > 0


def test_speaking_as_a_machine_is_counted():
    lines = ["I fix lifts.", "As an AI language model, I have no lifts.", "I am glad.", "Ask me."]
    scripts = [script(n, line, "hi") for n, line in enumerate(lines)]
    figures = compliance(scripts, PEOPLE)
    assert figures["in_character"] == 0.75
    assert figures["lengths"] == {2: 4}


def test_interactions_have_no_style_to_follow():
    assert compliance([script(0, "x y", "z", source="interact")], PEOPLE)["style"] == {}
    assert compliance([], {})["in_character"] is None
