"""Checks a file of people: is each one whole, and are they as many as they seem?"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from usersim.errors import InputError
from usersim.personas.factory import FactorySettings, marginals, near_duplicates
from usersim.personas.prose import from_prose, to_prose
from usersim.personas.schema import Persona, read_tables


@dataclass(slots=True)
class Report:
    """What was counted, and what is wrong."""

    figures: dict[str, Any]
    problems: list[str] = field(default_factory=list)


def check_people(path: Path, threshold: float, caps: FactorySettings | None = None) -> Report:
    """Shares of names and ages against the factory's caps, repeated names, near-duplicates.

    Raises InputError when the file holds no tables; a broken person is a problem in the report.
    """
    caps = caps or FactorySettings()
    people, problems = [], []
    for number, table in enumerate(read_tables(path), 1):
        try:
            people.append(Persona.from_row(table))
        except InputError as error:
            problems.append(f"person {number}: {error}")
    pairs = near_duplicates(people, threshold)
    figures = {"personas": len(people), "broken": len(problems), "near_duplicates": len(pairs)}
    problems += _collapsed("first name", [p.first_name for p in people], caps.most_first_name)
    problems += _collapsed("age", [p.personal.age for p in people], caps.most_age)
    names = Counter(p.name for p in people)
    problems += [f"{count} people are called {name}" for name, count in names.items() if count > 1]
    problems += [
        f"{people[p.left].name} and {people[p.right].name} are alike ({p.jaccard:.2f})"
        for p in pairs
    ]
    problems += [f"{p.name}: prose loses something" for p in people if from_prose(to_prose(p)) != p]
    return Report({**figures, **marginals(people)}, problems)


def _collapsed(what: str, values: list[Any], share: float) -> list[str]:
    most = max(1, int(share * len(values) + 1e-9))
    return [
        f"{what} {value!r} stands {count} times among {len(values)}, more than {share:.0%}"
        for value, count in Counter(values).most_common()
        if count > most
    ]
