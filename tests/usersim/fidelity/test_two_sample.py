import random

import pytest
from made_talks import COMMON, sentence, talk, talks

from usersim.errors import InputError
from usersim.fidelity.two_sample import TwoSampleSettings, two_sample

QUICK = TwoSampleSettings(splits=1)
CLASSIFIERS = ("linear", "fasttext")


@pytest.fixture(scope="module")
def of_one_kind():
    return two_sample(talks("r", 60, seed=1), talks("s", 60, seed=2), QUICK)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("part", ["first", "later"])
def test_two_draws_of_one_process_cannot_be_told_apart(of_one_kind, part, classifier):
    found = of_one_kind[part][classifier]
    assert found["auc"] == pytest.approx(0.5, abs=0.12)
    assert found["low"] < found["auc"] < found["high"]
    assert found["floor_low"] <= found["floor"] <= found["floor_high"]
    assert abs(found["excess"]) < 0.15


def test_what_was_compared_is_said(of_one_kind):
    first, later = of_one_kind["first"], of_one_kind["later"]
    assert (first["real_turns"], later["simulated_turns"]) == (60, 120)
    assert first["linear"]["floor_persons"] == 30


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_disjoint_vocabularies_are_told_apart_without_a_mistake(classifier):
    other = [word[::-1] + "x" for word in COMMON]
    settings = TwoSampleSettings(splits=1, folds=2, classifiers=(classifier,))
    found = two_sample(talks("r", 40, 1), talks("s", 40, 2, words=other), settings)
    for part in ("first", "later"):
        assert found[part][classifier]["auc"] == 1.0
        assert found[part][classifier]["auc_at_floor_size"] == 1.0
        assert found[part][classifier]["excess"] > 0.3


def test_the_words_that_give_it_away_are_named():
    simulated = talks("s", 40, 2, ending=" certainly")
    real = talks("r", 40, 1, ending=" lol")
    words = two_sample(real, simulated, TwoSampleSettings(classifiers=()))["first"]["words"]
    often, seldom = words["too_often"][0], words["too_seldom"][0]
    assert (often["word"], often["simulated"], often["real"]) == ("certainly", 1.0, 0.0)
    assert (seldom["word"], seldom["simulated"], seldom["real"]) == ("lol", 0.0, 1.0)


def signed_talks(prefix, number, seed):
    """Persons who repeat a word of their own in every turn: knowing one turn gives the others."""
    generator = random.Random(seed)
    names = ["".join(generator.choices("abcdefghijklmnop", k=9)) for _ in range(number)]
    return {
        f"{prefix}{n}-{copy}": (
            f"{prefix}{n}",
            [f"{name} {name} {sentence(generator, length=3)}" for _ in range(3)],
        )
        for n, name in enumerate(names)
        for copy in range(3)
    }


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_nobodys_turns_are_on_both_sides_of_a_fold(classifier):
    """Three conversations each, all signed; a fold that split a person would tell nearly all."""
    real, simulated = signed_talks("r", 30, 1), signed_talks("s", 90, 2)
    # Simulated conversations stand alone, so theirs differ in everything.
    alone = [talk(name, *turns) for name, (_, turns) in simulated.items() if name.endswith("-0")]
    held = {name: person for name, (person, _) in real.items()}
    talks_of_real = [talk(name, *turns) for name, (_, turns) in real.items()]
    settings = TwoSampleSettings(splits=0, classifiers=(classifier,))
    by_person = two_sample(talks_of_real, alone, settings, held)["first"]
    leaking = two_sample(talks_of_real, alone, settings)["first"]
    assert by_person["real_persons"] == 30
    assert by_person[classifier]["auc"] < 0.75
    assert leaking[classifier]["auc"] > 0.85


def test_a_text_cannot_name_its_side():
    """fastText reads its labels from the texts' own lines."""
    generator = random.Random(3)
    simulated, real = (
        [talk(f"{side}{n}", f"__side__{label} {sentence(generator)}") for n in range(40)]
        for label, side in enumerate("sr")
    )
    found = two_sample(real, simulated, TwoSampleSettings(splits=0, classifiers=("fasttext",)))
    assert found["first"]["fasttext"]["auc"] < 0.7


def test_with_other_people_the_floor_is_of_the_size_of_the_comparison():
    settings = TwoSampleSettings(splits=2, folds=2, classifiers=("linear",))
    sides = talks("r", 30, 1), talks("s", 30, 2)
    found = two_sample(*sides, settings, others=talks("o", 120, 3))["first"]["linear"]
    assert (found["floor_of"], found["floor_persons"]) == ("others", 30)
    assert found["auc_at_floor_size"] == found["auc"]
    assert abs(found["excess"]) < 0.2
    few = two_sample(*sides, settings, others=talks("o", 20, 3))["first"]["linear"]
    assert (few["floor_of"], few["floor_persons"]) == ("halves", 15)


def test_too_few_turns_give_no_figure_and_no_side_is_an_error():
    found = two_sample(talks("r", 30, 1, turns=1), talks("s", 5, 2, turns=1), QUICK)
    assert found["first"]["linear"] is None
    assert found["later"]["fasttext"] is None
    with pytest.raises(InputError, match="no simulated"):
        two_sample(talks("r", 3, 1), [], QUICK)


def test_turns_beyond_the_cap_are_not_looked_at():
    found = two_sample(
        talks("r", 30, 1, turns=6),
        talks("s", 30, 2, turns=2),
        TwoSampleSettings(splits=0, max_turns=2, classifiers=("linear",)),
    )
    assert found["later"]["real_turns"] == 30


def test_the_same_conversations_give_the_same_figures_in_any_order():
    real, simulated = talks("r", 25, 1), talks("s", 25, 2)
    settings = TwoSampleSettings(splits=0, folds=2)
    assert two_sample(real, simulated, settings) == two_sample(
        real[::-1], simulated[::-1], settings
    )
