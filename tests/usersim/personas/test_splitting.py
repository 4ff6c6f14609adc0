"""Split by character: nobody of the test is in training, by name, by life or by text."""

from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.neardup import near_duplicate_pairs
from usersim.personas.factory import FactorySettings, likeness_of, make_personas
from usersim.personas.scenes import SceneSettings, make_scenes
from usersim.personas.script import Script, Utterance
from usersim.personas.splitting import split_by_character
from usersim.shingling import Shingling

CAST = make_personas(FactorySettings(number=24)).personas
SCENES = make_scenes(CAST, SceneSettings(each=1))


def script(number, main, partner, text):
    return Script(
        id=f"s{number}",
        scene=SCENES[number % len(SCENES)],
        speakers=(main.name, partner.name),
        utterances=(
            Utterance(main.name, "speaking", text),
            Utterance(partner.name, "speaking", f"answer {number} to that from me"),
        ),
    )


def renamed(persona, name):
    return persona.model_copy(update={"personal": persona.personal.model_copy(
        update={"name": name})})  # fmt: skip


pairs = st.lists(st.tuples(st.integers(0, 23), st.integers(1, 23)), min_size=1, max_size=40)


@given(pairs, st.floats(0.05, 0.9), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_nothing_is_lost_and_nobody_is_on_both_sides(drawn, share, seed):
    scripts = [
        script(n, CAST[a], CAST[(a + b) % 24], f"story {n} of {a} and {b} told {n} times over")
        for n, (a, b) in enumerate(drawn)
    ]
    split = split_by_character(CAST, scripts, share, seed)
    parts = [split.train, split.test, split.mixed, split.alike]
    assert sorted(s.id for part in parts for s in part) == sorted(s.id for s in scripts)
    assert not {name for s in split.train for name in s.speakers} & split.unseen
    assert {s.main for s in split.test} <= split.unseen
    assert len(split.unseen) < len(CAST)


def test_a_second_person_of_one_name_or_one_life_goes_along():
    twin = renamed(CAST[0], "Somebody Else")  # the same life
    namesake = renamed(CAST[1], CAST[2].name.upper())  # another life
    people = [*CAST, twin, namesake]
    sides = set()
    for seed in range(40):
        unseen = split_by_character(people, [], 0.5, seed).unseen
        assert (CAST[0].name in unseen) == ("Somebody Else" in unseen)
        assert (CAST[2].name in unseen) == (namesake.name in unseen)
        sides |= {CAST[0].name in unseen}
    assert sides == {True, False}
    seen = [likeness_of(p) for p in people if p.name not in unseen]
    held = [likeness_of(p) for p in people if p.name in unseen]
    found = near_duplicate_pairs([*seen, *held], 0.6, Shingling(2))
    assert not [p for p in found if p.left < len(seen) <= p.right]


def test_a_training_script_that_repeats_a_test_script_is_left_out():
    unseen = split_by_character(CAST, [], 0.3, 1).unseen
    test = next(p for p in CAST if p.name in unseen)
    seen = [p for p in CAST if p.name not in unseen]
    story = "once upon a time somebody walked all the way from the hills down to the sea alone"
    scripts = [
        script(0, test, test.model_copy(update={"personal": seen[0].personal}), story),
        script(1, seen[1], seen[2], story),
        script(2, seen[1], seen[2], story + " again"),
        script(3, seen[3], seen[2], "nothing of that kind was ever told by anyone in this house"),
    ]
    split = split_by_character(CAST, scripts, 0.3, 1)
    assert [s.id for s in split.test] == ["s0"]
    assert [s.id for s in split.alike] == ["s1", "s2"]
    assert [s.id for s in split.train] == ["s3"]
