from made_talks import talk

from usersim.briefs import Brief
from usersim.conditions import profile_of
from usersim.fidelity.compliance import condition_figures, intent_figures
from usersim.fidelity.persons import persons_of

SHORT, LONG = "ok do it", " ".join(["write", "about", "the", "sea"] * 10)


def told(number, obeys):
    """People told to be short or long by turns; the first `obeys` of them are."""
    persons, briefs = [], {}
    for n in range(number):
        asked, other = (SHORT, LONG) if n % 2 else (LONG, SHORT)
        persons.append(talk(f"s{n}", asked if n < obeys else other))
        briefs[f"s{n}"] = Brief(profile=profile_of([asked]).line())
    return persons_of(persons), briefs


def test_who_was_asked_to_be_short_was_short():
    table = condition_figures(*told(40, obeys=40))
    assert table["opens_with"]["followed"] == 1.0
    assert table["opens_with"]["asked"] == 40
    assert table["opens_with"]["by_chance"] < 0.8
    assert "goes_on_with" not in table  # nobody has a later turn


def test_who_does_as_they_like_follows_by_chance():
    table = condition_figures(*told(40, obeys=30))
    assert table["opens_with"]["followed"] == 0.75
    assert table["opens_with"]["low"] < 0.75 < table["opens_with"]["high"]


def test_intents_are_followed_without_being_read_aloud():
    persons = persons_of(
        [
            talk("a", "my cat is ill", "which vet is good for a cat?"),
            talk("b", "trains from rome to oslo"),
            talk("c", "tell me a joke"),
        ]
    )
    briefs = {
        "a": Brief(intent="cat, vet"),
        "b": Brief(intent="trains from rome"),
        "c": Brief(intent="tax, law"),
    }
    table = intent_figures(persons, briefs)
    assert round(table["adherence"]["followed"], 4) == round((1 + 1 + 0) / 3, 4)
    assert table["adherence"]["by_chance"] < 0.2
    assert 0 < table["overlap"]["followed"] < table["adherence"]["followed"]


def test_nobody_who_was_told_nothing_is_counted():
    persons, _ = told(4, 4)
    assert condition_figures(persons, {}) == {}
    assert intent_figures(persons, {"s0": Brief(profile="opens with a short line")}) == {}
