"""Third person to first person: known answers, and that other people keep their pronouns."""

import pytest

from assistant.characters.profile import find_profile
from assistant.characters.voice import deeds, first_person, lived

SHE = {
    "Tamsin Orrow was a clockmaker.": "I was a clockmaker.",
    "He gave her the key and told her to go.": "He gave me the key and told me to go.",
    "Her father kept her letters.": "My father kept my letters.",
    "Tamsin's workshop was hers.": "My workshop was mine.",
    "She taught herself, and Hask taught her sums.": "I taught myself, and Hask taught me sums.",
    "The town admired her.": "The town admired me.",
    "Corin Orrow was a pilot.": "Corin Orrow was a pilot.",
    "Tamsin and Edric had one daughter.": "Edric and I had one daughter.",
    "She is old and she has a clock.": "I am old and I have a clock.",
}


@pytest.mark.parametrize(("told", "said"), SHE.items())
def test_she_becomes_i(told, said):
    assert first_person(told, find_profile("tamsin-orrow")) == said


def test_he_becomes_i_and_a_ship_stays_a_her():
    joram = find_profile("joram-pell")
    assert first_person("He named her Patience.", joram) == "I named her Patience."
    assert first_person("They asked him for his chair.", joram) == "They asked me for my chair."


@pytest.mark.parametrize(
    ("said", "alive"),
    [
        ("I was born in 1888 and died in 1961.", "I was born in 1888."),
        ("I died in my chair.", ""),
        ("My husband died in 1952.", "My husband died in 1952."),
        ("I built clocks.", "I built clocks."),
    ],
)
def test_nobody_tells_of_their_own_death(said, alive):
    assert lived(said) == alive


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("I slept in the hut, burned its doors, and left.", ["slept in", "burned"]),
        ("He was deaf, and I walked beside him.", ["walked"]),
        ("I was born in a mill and had a brother.", []),
        ("My mother sold belts.", []),
    ],
)
def test_deeds_are_the_persons_own(said, found):
    assert deeds(said) == found
