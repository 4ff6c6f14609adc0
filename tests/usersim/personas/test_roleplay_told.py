"""What each side of a role-play is told, and what can be left out of it."""

import pytest

from usersim.conditions import profile_of
from usersim.personas.roleplay import character_system, profile_line, profile_of_style
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.schema import WritingStyle


@pytest.fixture
def scene(ada):
    return make_scenes([ada], SceneSettings(each=1))[0]


def test_a_character_is_told_who_and_where_they_are(ada, scene):
    told = character_system(ada, scene)
    for part in (ada.name, ada.career, "whittling", scene.location, scene.background, scene.topic):
        assert part in told
    assert f"Emotion: {scene.emotion}" in told
    assert "emoji" not in told


@pytest.mark.parametrize(
    ("switch", "gone", "stays"),
    [
        ("aspects", ["lighthouse", "patient", "knots", "reef"], ["Location:", "Emotion:"]),
        ("scene", ["Location:", "Status:", "Topic:"], ["Emotion:", "lighthouse"]),
        ("emotion", ["Emotion:"], ["Location:", "lighthouse"]),
    ],
)
def test_each_switch_leaves_out_its_own_lines_only(ada, scene, switch, gone, stays):
    scene = scene.model_copy(update={"background": "a storm"})
    told = character_system(ada, scene, (switch,))
    assert not [part for part in gone if part in told]
    assert all(part in told for part in stays)


@pytest.mark.parametrize("capitals", ["none", "usual"])
@pytest.mark.parametrize("length", ["short", "medium", "long"])
def test_who_types_as_told_agrees_with_their_profile(capitals, length):
    style = WritingStyle(capitals=capitals, length=length, punctuation="none")
    words = {"short": (3, 3), "medium": (9, 9), "long": (20, 60)}[length]
    turns = [" ".join(["word"] * n) for n in words]
    turns = [t.capitalize() for t in turns] if capitals == "usual" else turns
    assert all(profile_of_style(style).agreement(profile_of(turns)).values())


def test_the_profile_is_one_line_that_names_nobody(ada):
    line = profile_line(ada)
    assert line.startswith("opens with a few words; goes on with")
    assert "Ada" not in line
    assert "\n" not in line
