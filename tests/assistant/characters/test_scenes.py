"""Scenes: every paragraph covered, the quota met, no duplicates, all of it the same again."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.characters.profile import About, Paragraph, Profile, find_profile, known_lives
from assistant.characters.scenes import SCENE_TYPES, extract_scenes, shares, topics
from usersim.errors import InputError
from usersim.shingling import Shingling


def made_profile(lengths):
    texts = (
        " ".join(f"Word{n}x{k} stood there." for k in range(size)) for n, size in enumerate(lengths)
    )
    return Profile(
        "Ann Bell", tuple(Paragraph(f"p{n:02}", t) for n, t in enumerate(texts, 1)), About()
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(0, 500))
def test_shares_sum_exactly_and_leave_nobody_out(lengths, more):
    profile = made_profile(lengths)
    found = shares(profile, len(lengths) + more)
    assert sum(found) == len(lengths) + more
    assert min(found) >= 1


@pytest.mark.parametrize("life", known_lives())
@pytest.mark.parametrize("count", [16, 100])
def test_scenes_cover_every_paragraph_and_meet_the_quota(life, count):
    profile = find_profile(life)
    scenes, figures = extract_scenes(profile, count)
    assert {s.paragraph for s in scenes} == {p.id for p in profile.paragraphs}
    assert abs(len(scenes) - count) <= 0.05 * count
    assert figures["made"] == len(scenes) == len({s.id for s in scenes})
    assert {s.type for s in scenes} == set(SCENE_TYPES)
    for scene in scenes:
        assert len(scene.background) > 20  # DC1: never the last character of a prompt
        assert profile.name in scene.background
        assert max(scene.focus) < len(profile.paragraph(scene.paragraph).sentences)
    assert extract_scenes(profile, count)[0] == scenes
    assert extract_scenes(profile, count, seed=1)[0] != scenes


def test_near_duplicates_are_refused_and_counted_when_a_paragraph_is_exhausted(monkeypatch):
    monkeypatch.setattr("assistant.characters.scenes.PLACES", ("a kitchen",))
    monkeypatch.setattr("assistant.characters.scenes.PARTNERS", ("a doctor",))
    scenes, figures = extract_scenes(made_profile([1]), 100)
    assert 5 <= figures["made"] < 30
    assert figures["duplicates"] >= 30
    shape = Shingling(words=3)
    texts = [shape.shingles(f"{s.type} {s.background}") for s in scenes]
    assert len(set(texts)) == len(scenes)


def test_a_quota_below_the_number_of_paragraphs_is_refused():
    with pytest.raises(InputError, match="cannot cover the 16 paragraphs"):
        extract_scenes(find_profile("mirela-dascal"), 15)


def test_topics_are_relations_names_and_things():
    tamsin = find_profile("tamsin-orrow")
    found = topics("Her father, Corin Orrow, piloted ships through the Needle Channel.", tamsin)
    assert found[:2] == ["your father", "Corin"]
    assert "Needle Channel" in found
    assert topics("Nothing at all.", tamsin) == ["that time"]
