"""Makes people: one from the aspects that somebody wrote, or many, with quotas and no collapse.

Quotas are dealt, not drawn: a deck of exactly the allotted labels is shuffled and handed out, so
that the marginals of 68 people are as right as those of 10,000. What is left to chance is drawn per
person from (seed, number), and drawn again when the person is too much like one made before.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any

from pydantic import Field

from usersim.errors import InputError
from usersim.files import fingerprint
from usersim.neardup import LiveIndex, Pair, near_duplicate_pairs
from usersim.personas import tables
from usersim.personas.prose import attributes
from usersim.personas.schema import GENDERS, Persona, PersonaDraft, draft_of
from usersim.personas.vocabulary import Vocabulary, deck
from usersim.progress import track
from usersim.settings import Settings
from usersim.shingling import Shingling

STYLE = ("capitals", "punctuation", "length", "formality", "politeness", "emoji")
NOT_LIKENESS = ("personal.name", "personal.age", "personal.gender")
"""Two people who differ in these only are one person twice."""


class FactorySettings(Settings):
    """How many people, and how different."""

    number: int = Field(68, ge=1, description="personas to make")
    seed: int = Field(7, ge=0, description="the same seed makes the same people")
    quotas: dict[str, dict[str, float]] = Field(
        {}, description="weights over labels, by attribute: gender, age, culture, field, length ..."
    )
    most_first_name: float = Field(0.02, gt=0, le=1, description="largest share of a first name")
    most_age: float = Field(0.1, gt=0, le=1, description="largest share of one age")
    threshold: float = Field(
        0.6, gt=0, le=1, description="Jaccard similarity at which two people are one"
    )
    attempts: int = Field(20, ge=1, description="draws of a person before giving up")


@dataclass(slots=True)
class Made:
    """The people, and what it took."""

    personas: list[Persona]
    redrawn: Counter[str] = field(default_factory=Counter)
    """Draws that were thrown away: `near_duplicate` or `same_name`."""

    def figures(self) -> dict[str, Any]:
        """What `realchat personas make` prints: collisions and marginals."""
        return {
            "personas": len(self.personas),
            "redrawn": dict(sorted(self.redrawn.items())),
            **marginals(self.personas),
        }


def make_personas(settings: FactorySettings) -> Made:
    """So many distinct people. Raises InputError for quotas that cannot be met."""
    return _Factory(settings).make()


def complete(table: Mapping[str, Any], seed: int = 7) -> Persona:
    """The whole person around what somebody wrote (the four aspects at least).

    What was written stays as it is; the rest is drawn, the same for the same text and seed.
    Raises InputError naming every problem of the table.
    """
    draft = draft_of(table)
    generator = Random(f"{seed}:{fingerprint(draft.model_dump(mode='json'))}")
    dealt: dict[str, Any] = {name: _one_of(q, generator) for name, q in _quotas({}).items()}
    dealt["age"] = _age_in(dealt["age"], generator)
    if isinstance(age := draft.personal.get("age"), int) and age >= 18:
        dealt["age"] = age
    dealt["gender"] = draft.personal.get("gender", dealt["gender"])
    if draft.personal.get("origin") in tables.cultures():
        dealt["culture"] = draft.personal["origin"]
    dealt["first_name"] = generator.choice(_first_names(dealt["culture"], dealt["gender"]))
    dealt["last_name"] = generator.choice(tables.cultures()[dealt["culture"]].family)
    known = tuple(trait for trait in draft.traits if trait in tables.traits())
    return _filled(draft, _drawn(dealt, generator, known))


def _filled(draft: PersonaDraft, drawn: dict[str, Any]) -> Persona:
    table = drawn | {k: getattr(draft, k) for k in ("career", "aspiration", "traits", "skills")}
    for part in ("personal", "social", "language", "style"):
        table[part] = drawn[part] | getattr(draft, part)
    return Persona.from_row(table)


class _Factory:
    """Hands out the quotas, draws the rest, and looks for collisions."""

    def __init__(self, settings: FactorySettings) -> None:
        self._settings = settings
        self._index: LiveIndex[int] = LiveIndex(settings.threshold, Shingling(2))
        self._names: set[str] = set()
        self._redrawn: Counter[str] = Counter()

    def make(self) -> Made:
        settings = self._settings
        dealt = self._dealt()
        personas = []
        with track("personas", settings.number, "personas") as bar:
            for number, given in enumerate(dealt):
                personas.append(self._one(number, given))
                bar.advance()
        return Made(personas, self._redrawn)

    def _dealt(self) -> list[dict[str, Any]]:
        """What the quotas give to each person."""
        settings = self._settings
        number, generator = settings.number, Random(f"{settings.seed}:deal")
        decks = {
            name: deck(quota, number, generator) for name, quota in _quotas(settings.quotas).items()
        }
        people = [{name: cards[i] for name, cards in decks.items()} for i in range(number)]
        self._deal_ages(people, generator)
        self._deal_first_names(people, generator)
        return people

    def _deal_ages(self, people: list[dict[str, Any]], generator: Random) -> None:
        """The years of a band are dealt evenly; none may pass the cap."""
        cap = _cap(self._settings.most_age, len(people))
        by_band: dict[str, list[dict[str, Any]]] = {}
        for person in people:
            by_band.setdefault(person["age"], []).append(person)
        for band, members in by_band.items():
            years = [str(year) for year in _years(band)]
            if len(members) > cap * len(years):
                raise InputError(
                    f"age band {band} has {len(years)} years for {len(members)} people, more than"
                    f" most_age={self._settings.most_age} allows: widen the band or raise it"
                )
            ages = deck(dict.fromkeys(years, 1.0), len(members), generator)
            for person, age in zip(members, ages, strict=True):
                person["age"] = int(age)

    def _deal_first_names(self, people: list[dict[str, Any]], generator: Random) -> None:
        cap, used = _cap(self._settings.most_first_name, len(people)), Counter[str]()
        decks: dict[tuple[str, str], Any] = {}
        for person in people:
            key = (person["culture"], person["gender"])
            if key not in decks:
                names = list(_first_names(*key))
                generator.shuffle(names)
                decks[key] = (len(names), cycle(names))
            size, names = decks[key]
            name = next((n for n, _ in zip(names, range(size), strict=False) if used[n] < cap), "")
            if not name:
                raise InputError(
                    f"culture {key[0]} has {size} first names for its share of {len(people)}"
                    f" people, more than most_first_name={self._settings.most_first_name} allows"
                )
            used[name] += 1
            person["first_name"] = name

    def _one(self, number: int, given: dict[str, Any]) -> Persona:
        for attempt in range(self._settings.attempts):
            generator = Random(f"{self._settings.seed}:{number}:{attempt}")
            last = generator.choice(tables.cultures()[_family_of(given, generator)].family)
            if f"{given['first_name']} {last}" in self._names:
                self._redrawn["same_name"] += 1
                continue
            persona = Persona.from_row(_drawn(given | {"last_name": last}, generator))
            if self._is_new(persona, number):
                return persona
        raise InputError(
            f"person {number} was too much like earlier ones {self._settings.attempts} times:"
            " raise `threshold` or `attempts`, or make fewer"
        )

    def _is_new(self, persona: Persona, number: int) -> bool:
        likeness = likeness_of(persona)
        if self._index.nearest(likeness) is not None:
            self._redrawn["near_duplicate"] += 1
            return False
        self._names.add(persona.name)
        self._index.add(number, likeness)
        return True


def near_duplicates(personas: Sequence[Persona], threshold: float) -> list[Pair]:
    """Pairs of people who are at least so much alike."""
    return near_duplicate_pairs([likeness_of(p) for p in personas], threshold, Shingling(2))


def likeness_of(persona: Persona) -> str:
    """What two people are compared by: all but name, age, gender, language and style."""
    groups = ("style", "language")
    values = [
        " ".join(value) if isinstance(value, list) else str(value)
        for name, value in attributes(persona).items()
        if name not in NOT_LIKENESS and name.partition(".")[0] not in groups
    ]
    return "\n".join(values)


def _quotas(given: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The quota of every dealt attribute, given or default. InputError for an unknown one."""
    known: dict[str, dict[str, float]] = {
        **tables.shares(),
        "culture": dict.fromkeys(tables.cultures(), 1.0),
        "field": dict.fromkeys(tables.work(), 1.0),
    }
    attribute = Vocabulary("quotas", tuple(known))
    quotas = dict(known)
    for name, quota in given.items():
        labels = known[attribute.check(name)]
        if name == "age":  # bands are anybody's own
            labels = {band: 1.0 for band in quota if _years(band)}
        quotas[name] = Vocabulary(name, tuple(labels)).weights(quota)
    return quotas


def _drawn(
    given: Mapping[str, Any], generator: Random, traits: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A whole person's table: what the quotas gave, and the rest by chance."""
    lives, age = tables.lives(), given["age"]
    traits = traits or tables.drawn_traits(generator.choice((2, 3, 3)), generator)
    culture = tables.cultures()[given["culture"]]
    return {
        **_work(given["field"], age, generator),
        "traits": traits,
        "personal": {
            "name": f"{given['first_name']} {given['last_name']}",
            "gender": given["gender"],
            "age": age,
            "origin": given["culture"],
            "tone": generator.choice(lives.tone),
            "personality": generator.choice(lives.personality),
            "strengths": tuple(tables.traits()[t].strength for t in traits),
            "weaknesses": tuple(tables.traits()[t].weakness for t in traits),
            "hobbies": tuple(generator.sample(lives.hobbies, generator.choice((1, 2, 3)))),
        },
        "social": {
            "family": generator.choice([e.text for e in lives.family if e.suits(age)]),
            "relationships": generator.choice(lives.relationships),
            "living": generator.choice(lives.living),
            "community": generator.choice(lives.community),
            "education": generator.choice(lives.education),
        },
        "language": _language(culture, generator),
        "style": {name: given[name] for name in STYLE},
    }


def _work(field_name: str, age: int, generator: Random) -> dict[str, Any]:
    """A career that suits the age, with skills and an aspiration of its field or of anybody."""
    work, lives = tables.work()[field_name], tables.lives()
    careers = [entry.text for entry in work.careers if entry.suits(age)]
    aspirations = generator.choice((work.aspirations, lives.general_aspirations))
    skills = generator.sample(work.skills, 2) + generator.sample(lives.general_skills, 1)
    return {
        "career": generator.choice(careers),
        "aspiration": generator.choice(aspirations),
        "skills": tuple(dict.fromkeys(skills)),
    }


def _language(culture: tables.Culture, generator: Random) -> dict[str, Any]:
    english = _one_of({str(k): v for k, v in culture.english.items()}, generator)
    others = [x for x in tables.lives().languages if x not in (culture.language, "English")]
    spoken = generator.sample(others, generator.choice((0, 0, 1)))
    if culture.language != "English":
        spoken = ["English", *spoken]
    return {"first": culture.language, "others": tuple(spoken), "english": english}


def _family_of(given: Mapping[str, Any], generator: Random) -> str:
    """The culture of the family name: a quarter of people have it from elsewhere."""
    if generator.random() < 0.25:
        return generator.choice(list(tables.cultures()))
    return str(given["culture"])


def _first_names(culture: str, gender: str) -> Sequence[str]:
    names = tables.cultures()[culture]
    by_gender = {"woman": names.women, "man": names.men}
    return by_gender.get(gender, (*names.women, *names.men))


def _one_of(weights: Mapping[str, float], generator: Random) -> str:
    return generator.choices(list(weights), list(weights.values()))[0]


def _years(band: str) -> range:
    low, dash, high = band.partition("-")
    if not (dash and low.isdecimal() and high.isdecimal() and 18 <= int(low) <= int(high) <= 99):
        raise InputError(f"age: a band is written as 25-34, within 18 to 99, not {band!r}")
    return range(int(low), int(high) + 1)


def _age_in(band: str, generator: Random) -> int:
    return generator.choice(_years(band))


def _cap(share: float, number: int) -> int:
    return max(1, int(share * number + 1e-9))


def marginals(personas: Sequence[Persona]) -> dict[str, Any]:
    """Shares of what must not collapse, and counts of what has a quota."""
    total = max(len(personas), 1)

    def top(values: list[Any]) -> dict[str, Any]:
        [(value, count)] = Counter(values).most_common(1) or [("", 0)]
        return {"value": value, "share": round(count / total, 4), "distinct": len(set(values))}

    counted = {name: Counter(str(getattr(p.style, name)) for p in personas) for name in STYLE}
    return {
        "top": {
            "first_name": top([p.first_name for p in personas]),
            "age": top([p.personal.age for p in personas]),
            "name": top([p.name for p in personas]),
            "career": top([p.career for p in personas]),
            "aspiration": top([p.aspiration for p in personas]),
        },
        "gender": {g: sum(p.personal.gender == g for p in personas) for g in GENDERS},
        "origin": dict(sorted(Counter(p.personal.origin for p in personas).items())),
        **{name: dict(sorted(counts.items())) for name, counts in counted.items()},
    }
