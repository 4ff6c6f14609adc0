"""Many people: quotas are met by construction, nobody stands for half of the population."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usersim.errors import InputError
from usersim.personas import factory, tables
from usersim.personas.factory import FactorySettings, complete, make_personas, near_duplicates
from usersim.personas.schema import Persona
from usersim.personas.vocabulary import allot

ASPECTS = {
    "career": "night baker",
    "aspiration": "open a bakery that trains apprentices",
    "traits": ["stubborn", "warm-hearted"],
    "skills": ["sourdough", "mental arithmetic"],
}


@pytest.fixture(scope="module")
def people():
    return make_personas(FactorySettings(number=200, seed=3)).personas


@pytest.mark.parametrize("number", [1, 68, 200])
def test_no_name_and_no_age_stands_for_the_population(number):
    """DS4: names and ages do not collapse."""
    people = make_personas(FactorySettings(number=number)).personas
    names = Counter(p.first_name for p in people)
    ages = Counter(p.personal.age for p in people)
    assert max(names.values()) <= max(1, number * 0.02)
    assert max(ages.values()) <= max(1, number * 0.1)
    assert len({p.name for p in people}) == len({p.id for p in people}) == len(people) == number


def test_quotas_are_met_exactly(people):
    shares = tables.shares()
    for attribute in ("capitals", "length", "emoji"):
        counts = Counter(getattr(p.style, attribute) for p in people)
        assert dict(counts) == allot(shares[attribute], len(people))
    assert Counter(p.personal.gender for p in people) == allot(shares["gender"], len(people))
    origins = Counter(p.personal.origin for p in people)
    assert max(origins.values()) - min(origins.values()) <= 1


def test_a_quota_of_ones_own_is_kept():
    quotas = {"gender": {"woman": 1}, "age": {"30-49": 1}, "culture": {"Irish": 1, "Greek": 1}}
    people = make_personas(FactorySettings(number=20, quotas=quotas)).personas
    assert {p.personal.gender for p in people} == {"woman"}
    assert {p.personal.origin for p in people} == {"Irish", "Greek"}
    assert all(30 <= p.personal.age <= 49 for p in people)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"quotas": {"gendre": {"woman": 1}}}, "did you mean `gender`"),
        ({"quotas": {"length": {"tiny": 1}}}, "length: no label 'tiny'"),
        ({"quotas": {"age": {"17-20": 1}}}, "within 18 to 99"),
        ({"quotas": {"age": {"30-31": 1}}, "number": 100}, "raise it"),
        ({"quotas": {"culture": {"Irish": 1}}, "number": 100}, "most_first_name"),
        ({"quotas": {"length": {"short": -1, "long": 2}}}, "weights must be 0 or more"),
    ],
)
def test_a_quota_that_cannot_be_met_is_refused(change, problem):
    with pytest.raises(InputError, match=problem):
        make_personas(FactorySettings(**{"number": 10, **change}))


def test_people_who_are_alike_are_drawn_again(monkeypatch):
    """Planted: every attempt but the last of each person copies an earlier one's life."""
    real = factory._drawn

    def copying(given, generator, traits=()):
        table = real(given, generator, traits)
        if generator.random() < 0.5:
            twin = real(given | {"field": "food", "age": 30}, Random("same"))
            table = twin | {"personal": twin["personal"] | {"name": table["personal"]["name"]}}
        return table

    monkeypatch.setattr(factory, "_drawn", copying)
    made = make_personas(FactorySettings(number=60))
    assert made.redrawn["near_duplicate"] > 10
    assert near_duplicates(made.personas, 0.6) == []


def test_the_same_seed_makes_the_same_people(people):
    again = make_personas(FactorySettings(number=200, seed=3)).personas
    other = make_personas(FactorySettings(number=200, seed=4)).personas
    assert again == people
    assert not {p.id for p in other} & {p.id for p in people}


def test_four_aspects_make_a_whole_person():
    person = complete(ASPECTS, seed=5)
    assert isinstance(person, Persona)
    assert (person.career, person.traits) == ("night baker", ("stubborn", "warm-hearted"))
    assert person.personal.strengths == ("not giving up", "making people feel seen")
    assert complete(ASPECTS, seed=5) == person
    assert complete(ASPECTS, seed=6) != person


def test_a_whole_person_is_completed_to_themselves(people):
    assert [complete(p.to_row()) for p in people[:9]] == people[:9]


def test_what_was_written_stays():
    written = {"personal": {"name": "Bo Li", "age": 71}, "style": {"length": "long"}}
    person = complete(ASPECTS | written)
    assert (person.name, person.personal.age, person.style.length) == ("Bo Li", 71, "long")


@pytest.mark.parametrize("wrong", [{"age": 12}, {"age": "old"}, {"gender": "x"}, {"name": ""}])
def test_what_was_written_wrongly_is_refused_with_its_place(wrong):
    with pytest.raises(InputError, match=f"personal.{next(iter(wrong))}"):
        complete(ASPECTS | {"personal": wrong})


@given(st.dictionaries(st.text(max_size=3), st.floats(0.01, 100), min_size=1), st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_allotted_numbers_add_up_and_are_within_one_of_their_share(weights, number):
    counts = allot(weights, number)
    total = sum(weights.values())
    assert sum(counts.values()) == number
    assert all(abs(counts[k] - number * w / total) <= 1 + 1e-6 for k, w in weights.items())


def test_the_tables_hold_what_they_promise():
    cultures = tables.cultures().values()
    given_names = [n for c in cultures for n in (*c.women, *c.men)]
    assert len(given_names) == len(set(given_names)) == len(cultures) * 20
    for name, trait in tables.traits().items():
        assert name not in trait.not_with
        assert set(trait.not_with) <= set(tables.traits())


def test_nobody_has_traits_that_do_not_go_together(people):
    for person in people:
        against = {other for trait in person.traits for other in tables.traits()[trait].not_with}
        assert not against & set(person.traits)
