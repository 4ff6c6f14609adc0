"""Scenes: exactly as many as asked for, labels by quota, nothing off-list."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.errors import InputError
from usersim.personas import tables
from usersim.personas.factory import FactorySettings, make_personas
from usersim.personas.scenes import (
    Scene,
    SceneSettings,
    make_scenes,
    read_scenes,
    scene_marginals,
    write_scenes,
)
from usersim.personas.vocabulary import EMOTIONS, SCENE_TYPES, TOPICS, Vocabulary, allot


@pytest.fixture(scope="module")
def people():
    return make_personas(FactorySettings(number=17)).personas


def test_the_closed_lists_have_the_sizes_that_were_promised():
    assert (len(SCENE_TYPES), len(TOPICS), len(EMOTIONS)) == (4, 18, 16)
    assert set(tables.places().places) == set(tables.places().backgrounds) == set(SCENE_TYPES)


def test_everybody_gets_exactly_their_scenes(people):
    scenes = make_scenes(people, SceneSettings(each=20))
    assert Counter(s.persona_id for s in scenes) == {p.id: 20 for p in people}
    assert len({s.id for s in scenes}) == len(scenes) == 340
    assert {s.persona_id for s in scenes[:17]} == {p.id for p in people}
    assert all(s.location and s.background for s in scenes)


def test_marginals_are_the_quota_to_one(people):
    marginals = scene_marginals(make_scenes(people, SceneSettings(each=20)))
    for name, labels in (("type", SCENE_TYPES), ("topic", TOPICS), ("emotion", EMOTIONS)):
        assert marginals[name] == allot(dict.fromkeys(labels, 1.0), 340)


weights = st.dictionaries(st.sampled_from(EMOTIONS), st.floats(0.1, 9), min_size=1)


@given(weights, st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_nothing_off_the_list_is_made_whatever_the_quota(ada_alone, quota, each):
    """DS1: labels are of closed lists, never free text."""
    scenes = make_scenes(ada_alone, SceneSettings(each=each, emotions=quota))
    assert {s.emotion for s in scenes} <= set(quota)
    assert {s.type for s in scenes} <= set(SCENE_TYPES)
    assert {s.topic for s in scenes} <= set(TOPICS)


@pytest.fixture(scope="module")
def ada_alone():
    return make_personas(FactorySettings(number=1)).personas


def test_long_and_braced_words_make_scenes_too(ada):
    odd = ada.model_copy(
        update={
            "aspiration": "{see} {0} " + "x" * 180,
            "personal": ada.personal.model_copy(update={"name": "N" * 200}),
        }
    )
    scenes = make_scenes([odd], SceneSettings(each=30))
    assert all(len(s.background) <= 200 for s in scenes)
    assert {s.persona_id for s in scenes} == {odd.id}


def test_a_label_of_ones_own_can_be_added(ada_alone):
    settings = SceneSettings(each=4, more_emotions=("homesick",), emotions={"homesick": 1})
    scenes = make_scenes(ada_alone, settings)
    assert {s.emotion for s in scenes} == {"homesick"}
    with pytest.raises(InputError, match="did you mean `angry`"):
        SceneSettings(emotions={"angri": 1}).quotas()
    with pytest.raises(InputError, match="stands twice"):
        SceneSettings(more_topics=("Small Talk!",)).quotas()


def test_scenes_survive_their_file_and_an_off_list_label_does_not(people, tmp_path):
    scenes = make_scenes(people, SceneSettings(each=2))
    write_scenes(tmp_path / "s.jsonl", scenes)
    assert read_scenes(tmp_path / "s.jsonl") == scenes
    row = scenes[0].model_dump() | {"type": "concert"}
    with pytest.raises(InputError, match="no label 'concert'"):
        Scene.from_row(row, SceneSettings())
    with pytest.raises(InputError, match="location"):
        Scene.from_row(row | {"type": "chat", "location": " "}, SceneSettings())


def test_free_spellings_are_recognised_or_not():
    """79 spellings of 18 topics once came of free text: case and marks are all that is forgiven."""
    topics = Vocabulary("topics", TOPICS)
    assert [topics.recognise(t) for t in ("Small talk.", "DEEP-THOUGHTS", "Sport")] == [
        "small talk", "deep thoughts", None,
    ]  # fmt: skip
