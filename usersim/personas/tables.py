"""The trait tables that ship with the package (`tables/*.yaml`), read once and checked."""

from functools import lru_cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml
from pydantic import Field

from usersim.personas.schema import Fluency
from usersim.settings import Settings


class Culture(Settings):
    """Names and languages of one culture."""

    language: str
    english: dict[Fluency, float]
    women: tuple[str, ...]
    men: tuple[str, ...]
    family: tuple[str, ...]


class Trait(Settings):
    """A trait, what it is good and bad for, and what it does not go with."""

    strength: str
    weakness: str
    not_with: tuple[str, ...] = ()


class Entry(Settings):
    """A phrase for people of some ages."""

    text: str
    youngest: int = Field(18, alias="from")
    oldest: int = Field(99, alias="to")

    def suits(self, age: int) -> bool:
        """Whether somebody of this age may have it."""
        return self.youngest <= age <= self.oldest


class Work(Settings):
    """A field of work."""

    careers: tuple[Entry, ...]
    skills: tuple[str, ...]
    aspirations: tuple[str, ...]


class Lives(Settings):
    """What surrounds a person."""

    tone: tuple[str, ...]
    personality: tuple[str, ...]
    hobbies: tuple[str, ...]
    family: tuple[Entry, ...]
    relationships: tuple[str, ...]
    living: tuple[str, ...]
    community: tuple[str, ...]
    education: tuple[str, ...]
    languages: tuple[str, ...]
    general_skills: tuple[str, ...]
    general_aspirations: tuple[str, ...]


class Places(Settings):
    """Where scenes of each type happen, and what is going on there."""

    places: dict[str, tuple[str, ...]]
    backgrounds: dict[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def cultures() -> dict[str, Culture]:
    """Cultures by name."""
    return {name: Culture(**table) for name, table in _read("names").items()}


@lru_cache(maxsize=1)
def traits() -> dict[str, Trait]:
    """Traits by name."""
    return {name: Trait(**table) for name, table in _read("traits").items()}


@lru_cache(maxsize=1)
def work() -> dict[str, Work]:
    """Fields of work by name."""
    return {
        name: Work(**table | {"careers": _entries(table["careers"])})
        for name, table in _read("careers").items()
    }


@lru_cache(maxsize=1)
def lives() -> Lives:
    """What surrounds people."""
    table = _read("lives")
    return Lives(**table | {"family": _entries(table["family"])})


@lru_cache(maxsize=1)
def places() -> Places:
    """Places and backgrounds of scenes."""
    return Places(**_read("places"))


@lru_cache(maxsize=1)
def cues() -> dict[str, dict[str, tuple[str, ...]]]:
    """Word beginnings by label, for emotions and topics."""
    return {
        kind: {label: tuple(words) for label, words in labels.items()}
        for kind, labels in _read("cues").items()
    }


@lru_cache(maxsize=1)
def shares() -> dict[str, dict[str, float]]:
    """The default quotas of a population."""
    return {name: dict(table) for name, table in _read("shares").items()}


def drawn_traits(number: int, generator: Random) -> tuple[str, ...]:
    """Traits that go with each other."""
    left, chosen = list(traits()), []
    for _ in range(number):
        trait = generator.choice(left)
        chosen.append(trait)
        against = {trait, *traits()[trait].not_with}
        left = [t for t in left if t not in against and trait not in traits()[t].not_with]
    return tuple(chosen)


def _entries(values: list[Any]) -> list[Any]:
    return [{"text": value} if isinstance(value, str) else value for value in values]


def _read(name: str) -> dict[str, Any]:
    path = files("usersim.personas").joinpath("tables", f"{name}.yaml")
    table: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return table
